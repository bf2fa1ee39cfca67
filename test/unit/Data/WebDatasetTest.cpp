//===- WebDatasetTest.cpp - Tests of tar shards --------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/WebDataset.h"

#include "TestFiles.h"

#include <cstdio>
#include <cstring>
#include <random>

using namespace llrt;
using namespace llrt::test;

namespace {

// One header block and the padded bytes of a ustar member.
std::string member(const std::string &name, const std::string &bytes, char type = '0',
                   const std::string &prefix = "") {
  char header[512] = {};
  std::strncpy(header, name.c_str(), 100);
  std::snprintf(header + 100, 8, "%07o", 0644u);
  std::snprintf(header + 124, 12, "%011o", unsigned(bytes.size()));
  std::memset(header + 148, ' ', 8);
  header[156] = type;
  std::memcpy(header + 257, "ustar\00000", 8);
  std::strncpy(header + 345, prefix.c_str(), 155);
  unsigned sum = 0;
  for (char c : header)
    sum += uint8_t(c);
  std::snprintf(header + 148, 8, "%06o", sum);
  std::string padding((512 - bytes.size() % 512) % 512, '\0');
  return std::string(header, 512) + bytes + padding;
}

const std::string endMark(1024, '\0');

std::string paxRecord(const std::string &key, const std::string &value) {
  std::string rest = " " + key + "=" + value + "\n";
  size_t length = rest.size() + 1;
  while (std::to_string(length).size() + rest.size() != length)
    ++length;
  return std::to_string(length) + rest;
}

// `shard:key{field=bytes ...}` of all samples that are left.
std::vector<std::string> readAllSamples(WebDataset &data) {
  std::vector<std::string> samples;
  while (std::optional<Sample> sample = data.next()) {
    std::string text = sample->key + "{" + sample->fault;
    for (const auto &[field, bytes] : sample->fields)
      text += field + "=" + bytes + " ";
    samples.push_back(text + "}");
  }
  return samples;
}

std::vector<std::string> readText(const std::string &tar) {
  Folder folder;
  WebDataset data({folder.write("a.tar", tar)});
  return readAllSamples(data);
}

std::string refusal(const std::string &tar) {
  return errorOf([&] { readText(tar); });
}

// What is wrong with the first sample.
std::string faultOf(const std::string &tar) {
  Folder folder;
  WebDataset data({folder.write("a.tar", tar)});
  std::string fault = data.next().value().fault;
  return fault.substr(fault.rfind("a.tar"));
}

using Texts = std::vector<std::string>;

// Keys end at the first dot of the file name; fields are in lower case; members
// of no sample are passed over; only neighbours are one sample.
TEST(WebDataset, GroupsMembers) {
  std::string tar = member("d/", "", '5') + member("__index__", "x") + member("README", "no dot") +
                    member("d/._x.png", "hidden") + member("d.e/1.Seg.PNG", "p") +
                    member("d.e/1.txt", "t") + member("2.txt", "second") +
                    member("fifo.txt", "", '6') + member("3.txt", "") + member("2.png", "again") +
                    endMark;
  EXPECT_EQ(readText(tar),
            (Texts{"d.e/1{seg.png=p txt=t }", "2{txt=second }", "3{txt= }", "2{png=again }"}));
  // The end mark may be missing, as tarfile allows; what follows it is not
  // read, but for another archive.
  EXPECT_EQ(readText(member("1.txt", "t")), Texts{"1{txt=t }"});
  EXPECT_EQ(readText(member("1.txt", "t") + endMark + "junk"), Texts{"1{txt=t }"});
  EXPECT_EQ(readText(member("1.txt", "t") + endMark + member("2.txt", "u") + endMark),
            (Texts{"1{txt=t }", "2{txt=u }"}));
  EXPECT_EQ(readText(""), Texts{});
  EXPECT_EQ(readText(endMark), Texts{});
  Folder folder;
  WebDataset data({folder.write("a.tar", tar)});
  readAllSamples(data);
  EXPECT_EQ(data.firstWithoutField(), folder / "a.tar" + ": 'README'");
}

// A header with the name of what it links to.
std::string linkTo(const std::string &name, const std::string &target, char type) {
  std::string text = member(name, "", type);
  target.copy(&text[157], 100);
  text.replace(148, 8, 8, ' ');
  unsigned sum = 0;
  for (char c : text.substr(0, 512))
    sum += uint8_t(c);
  std::snprintf(&text[148], 8, "%06o", sum);
  return text;
}

// Links mean files of the archive, by whichever way; a hard link the version
// before it, a symbolic one the last.
TEST(WebDataset, FollowsLinks) {
  auto fieldOf = [](const std::string &tar, const std::string &key) {
    for (const std::string &text : readText(tar + endMark))
      if (text.starts_with(key + "{"))
        return text.substr(key.size());
    return std::string();
  };
  std::string image = member("img/x.png", "pixels");
  std::string soft = linkTo("a/1.png", "../img/x.png", '2'),
              hard = linkTo("a/1.png", "img/x.png", '1');
  for (const std::string &link : {soft, hard})
    for (const std::string &tar : {image + link, link + image}) // either first
      EXPECT_EQ(fieldOf(tar, "a/1"), "{png=pixels }");
  // A chain, odd spellings, an absolute path, a folder that is a link.
  EXPECT_EQ(fieldOf(image + linkTo("2.png", "./a//1.png", '2') + soft, "2"), "{png=pixels }");
  EXPECT_EQ(fieldOf(linkTo("2.png", "/img/x.png", '2') + image, "2"), "{png=pixels }");
  EXPECT_EQ(
      fieldOf(linkTo("b/c", "../img", '2') + linkTo("b/2.png", "c/../c/x.png", '2') + image, "b/2"),
      "{png=pixels }");
  // The long name of a target.
  std::string folder(120, 'f');
  EXPECT_EQ(fieldOf(member("x", folder + "/x.png" + '\0', 'K') + linkTo("2.png", "short", '2') +
                        member("x.png", "pixels", '0', folder),
                    "2"),
            "{png=pixels }");
  EXPECT_EQ(fieldOf(member("x", paxRecord("linkpath", folder + "/x.png"), 'x') +
                        linkTo("2.png", "short", '1') + member("x.png", "pixels", '0', folder),
                    "2"),
            "{png=pixels }");
  EXPECT_EQ(fieldOf(member("x.png", "old") + linkTo("2.png", "x.png", '1') + member("q.txt", "") +
                        member("x.png", "new"),
                    "2"),
            "{png=old }");
  EXPECT_EQ(fieldOf(member("x.png", "old") + linkTo("2.png", "x.png", '2') + member("q.txt", "") +
                        member("x.png", "new"),
                    "2"),
            "{png=new }");
}

// Files that links of samples lead to are no samples, wherever they stand.
TEST(WebDataset, LinkedFilesAreNoSamples) {
  std::string store = member("img/x.png", "p") + member("img/y.png", "q"),
              samples = linkTo("1.png", "img/x.png", '2') + member("1.txt", "t") +
                        linkTo("2.png", "img/y.png", '1') + member("2.txt", "u");
  Texts want = {"1{png=p txt=t }", "2{png=q txt=u }"};
  EXPECT_EQ(readText(store + samples), want);
  EXPECT_EQ(readText(samples + store), want);
  want.push_back("img/z{png=r }"); // a file that no link leads to
  EXPECT_EQ(readText(store + samples + member("img/z.png", "r")), want);
  // A sample that has a text stays one.
  EXPECT_EQ(readText(member("1.png", "p") + member("1.txt", "t") + linkTo("2.png", "1.png", '2') +
                     member("2.txt", "u")),
            (Texts{"1{png=p txt=t }", "2{png=p txt=u }"}));
  Folder folder;
  WebDataset data(
      {folder.write("a.tar", samples + store), folder.write("b.tar", member("3.txt", "v"))});
  EXPECT_TRUE(data.skip() && data.skip());
  EXPECT_EQ(data.position(), (DataPosition{1, 0}));
  EXPECT_ERROR(data.seek({0, 3}), "expected at least 3 samples, got 2");
}

// A link that leads nowhere spoils its sample, not the dataset.
TEST(WebDataset, RefusesLinksThatLeadNowhere) {
  std::string image = member("x.png", "p"), folder = member("d", "", '5');
  auto expect = [&](const std::string &target, char type, const std::string &reason) {
    std::string tar = linkTo("1.png", target, type) + image + folder + linkTo("l", "m", '2') +
                      linkTo("m", "l", '2');
    EXPECT_EQ(faultOf(tar), "a.tar: member '1.png': expected a link to a file "
                            "of this archive, got '" +
                                target + "', " + reason);
    EXPECT_EQ(readText(tar).back(), "x{png=p }");
  };
  expect("y.png", '2', "which is not in it");
  expect("y.png", '1', "which is not in it");
  expect("../x.png", '2', "which leads out of it");
  expect("d", '2', "which is no file");
  expect("1.png", '2', "which leads in a circle");
  expect("l", '2', "which leads in a circle");
  expect("l/x", '2', "which leads in a circle");
}

// The sparse file `..ab...c` (dots are zeros) in GNU's four forms.
TEST(WebDataset, SparseFiles) {
  std::string want =
      std::string("1{txt=") + std::string(2, '\0') + "ab" + std::string(3, '\0') + "c }";
  auto expect = [&](const std::string &tar) {
    EXPECT_EQ(readText(tar + member("2.txt", "u") + endMark), (Texts{want, "2{txt=u }"}));
  };
  auto records = [](std::vector<std::pair<std::string, std::string>> list) {
    std::string text;
    for (auto &[key, value] : list)
      text += paxRecord("GNU.sparse." + key, value);
    return member("pax", text, 'x');
  };
  expect(records({{"size", "8"},
                  {"numblocks", "2"},
                  {"offset", "2"},
                  {"numbytes", "2"},
                  {"offset", "7"},
                  {"numbytes", "1"}}) +
         member("1.txt", "abc"));
  expect(records({{"size", "8"}, {"numblocks", "2"}, {"map", "2,2,7,1"}, {"name", "1.txt"}}) +
         member("GNUSparseFile.1/1.txt", "abc"));
  std::string map = "2\n2\n2\n7\n1\n";
  map.resize(512);
  expect(records({{"major", "1"}, {"minor", "0"}, {"name", "1.txt"}, {"realsize", "8"}}) +
         member("GNUSparseFile.1/1.txt", map + "abc"));
  // The old form: four parts in the header, more in blocks behind it.
  for (int more : {0, 1}) {
    std::string tar = member("1.txt", "abc", 'S');
    auto put = [&](size_t at, unsigned value) { std::snprintf(&tar[at], 12, "%011o", value); };
    if (more) {
      tar.insert(512, 512, '\0');
      tar[482] = 1;
      put(512, 2), put(524, 2), put(536, 7), put(548, 1);
    } else {
      put(386, 2), put(398, 2), put(410, 7), put(422, 1);
    }
    put(483, 8);
    std::memset(&tar[148], ' ', 8);
    unsigned sum = 0;
    for (size_t i = 0; i < 512; ++i)
      sum += uint8_t(tar[i]);
    std::snprintf(&tar[148], 8, "%06o", sum);
    expect(tar);
  }
  // Maps that do not fit.
  for (const char *broken : {"2,2,7", "2,2,7,2", "2,9", "x", "9,1", "2,2,-7,1"})
    EXPECT_EQ(faultOf(records({{"size", "8"}, {"map", broken}}) + member("1.txt", "abc")),
              "a.tar: member '1.txt': expected a sparse file whose map fits "
              "its bytes")
        << broken;
  EXPECT_EQ(faultOf(records({{"major", "1"}, {"realsize", "8"}}) + member("1.txt", "9\n1\n")),
            "a.tar: member '1.txt': expected a sparse file whose map fits its "
            "bytes");
  EXPECT_EQ(faultOf(records({{"size", "99999999999"}, {"map", "0,3"}}) + member("1.txt", "abc")),
            "a.tar: member '1.txt': expected a sparse file of at most "
            "4294967296 bytes, got one of 99999999999");
}

// Packed shards are refused by name, not taken for broken ones or passed over.
TEST(WebDataset, RefusesPackedShards) {
  EXPECT_NE(refusal("\x1f\x8b......")
                .find("a.tar: expected a tar file, got "
                      "one packed by gzip; unpack"),
            std::string::npos);
  Folder folder;
  folder.write("a.tar", "");
  folder.write("B.TAR", "");
  folder.write("._a.tar", "macOS");
  EXPECT_EQ(expandShards(folder / ""), (Texts{folder / "B.TAR", folder / "a.tar"}));
  folder.write("b.tar.gz", "");
  EXPECT_ERROR(expandShards(folder / ""), "b.tar.gz: expected unpacked .tar");
}

// The three ways to write a name of more than 100 bytes.
TEST(WebDataset, LongNames) {
  std::string folder(150, 'f'), name = folder + "/1.txt";
  EXPECT_EQ(readText(member("1.txt", "t", '0', folder) + endMark), Texts{folder + "/1{txt=t }"});
  EXPECT_EQ(readText(member("././@LongLink", name + '\0', 'L') + member(name.substr(0, 100), "t") +
                     member("2.txt", "u")),
            (Texts{folder + "/1{txt=t }", "2{txt=u }"}));
  std::string pax = paxRecord("mtime", "1.5") + paxRecord("path", name) + paxRecord("size", "1");
  EXPECT_EQ(readText(member("pax", pax, 'x') + member("short", "t") +
                     member("global", paxRecord("comment", "c"), 'g') + member("2.txt", "u")),
            (Texts{folder + "/1{txt=t }", "2{txt=u }"}));
}

// A position that was saved anywhere gives the samples that were still to come.
TEST(WebDataset, Resumes) {
  Folder folder;
  std::string three =
      member("1.txt", "a") + member("1.png", "x") + member("2.txt", "b") + member("3.txt", "c");
  std::vector<std::string> shards = {folder.write("0.tar", three + endMark),
                                     folder.write("1.tar", endMark),
                                     folder.write("2.tar", member("1.txt", "d") + endMark)};
  WebDataset data(shards);
  Texts all = readAllSamples(data);
  EXPECT_EQ(all, (Texts{"1{png=x txt=a }", "2{txt=b }", "3{txt=c }", "1{txt=d }"}));
  EXPECT_EQ(data.position(), (DataPosition{3, 0}));
  data.seek({0, 0});
  for (size_t done = 0; done <= all.size(); ++done) {
    WebDataset resumed(shards);
    resumed.seek(data.position());
    EXPECT_EQ(readAllSamples(resumed), Texts(all.begin() + int64_t(done), all.end()));
    EXPECT_EQ(data.skip(), done < all.size());
  }
  EXPECT_ERROR(data.seek({0, 4}), "0.tar: expected at least 4 samples, got 3");
  EXPECT_ERROR(data.seek({4, 0}), "expected a shard of 0 to 3");
  EXPECT_ERROR(data.seek({3, 1}), "expected at least 1 samples, got 0");
  EXPECT_ERROR(data.seek({0, -1}), "sample -1");
}

TEST(WebDataset, ExpandsShards) {
  Folder folder;
  for (const char *name : {"s-00.tar", "s-08.tar", "s-09.tar", "s-10.tar", "x.txt"})
    folder.write(name, "");
  Texts all = {folder / "s-08.tar", folder / "s-09.tar", folder / "s-10.tar"};
  std::string base = folder / "s-";
  EXPECT_EQ(expandShards(folder / "").size(), 4u);
  EXPECT_EQ(expandShards(folder / "").back(), all.back());
  EXPECT_EQ(expandShards(base + "{08..10}.tar"), all);
  EXPECT_EQ(expandShards(base + "{08,09}.tar," + base + "10.tar"), all);
  EXPECT_EQ(expandShards(base + "{0,1}{0}.tar" + "," + all[0]),
            expandShards(base + "00.tar," + base + "10.tar," + all[0]));
}

TEST(WebDataset, RefusesShards) {
  Folder folder;
  std::string base = folder / "s-";
  EXPECT_ERROR(expandShards(folder / ""), "expected at least one .tar file");
  EXPECT_ERROR(expandShards(base + "{1..2}.tar"), "s-1.tar: expected a .tar file");
  EXPECT_ERROR(expandShards(base + "{2..1}.tar"), "expected a rising range");
  EXPECT_ERROR(expandShards(base + "{0..9999999999}.tar"), "at most 1000000");
  EXPECT_ERROR(expandShards(base + "{a..c}.tar"), "{FIRST..LAST}");
  EXPECT_ERROR(expandShards(""), "expected a .tar file");
}

// A fault names shard and member.
TEST(WebDataset, RefusesBrokenTars) {
  auto has = [](const std::string &message, const std::string &part) {
    return message.find(part) != std::string::npos ? "" : message;
  };
  std::string good = member("1.txt", std::string(600, 't'));
  EXPECT_EQ(has(refusal(good.substr(0, 100)), "a.tar: tar header at byte 0"), "");
  EXPECT_EQ(has(refusal(good.substr(0, 1000)), "a.tar: member '1.txt': expected a "
                                               "size of at most 488 bytes, got 600"),
            "");
  std::string bad = good;
  bad[3] = 'y';
  EXPECT_EQ(has(refusal(bad), "wrong checksum"), "");
  EXPECT_EQ(faultOf(member("1.txt", "a") + member("1.TXT", "b")),
            "a.tar: member '1.TXT': field 'txt' appears twice in sample '1'");
  EXPECT_EQ(has(refusal(member("p", "9999 path=x\n", 'x')), "pax records"), "");
  EXPECT_EQ(has(refusal(member("p", paxRecord("size", "z"), 'x') + good),
                "field 'size': expected a number, got 'z'"),
            "");
  EXPECT_EQ(has(refusal(member("p", paxRecord("size", "99999"), 'x') + good), "got 99999"), "");

  std::string tar =
      member("p", paxRecord("path", "q/1.png"), 'x') + good + member("2.txt", "u") + endMark;
  std::mt19937 draw(1);
  for (int round = 0; round < 500; ++round) {
    std::string broken = tar;
    // Set a byte and mend the checksum, so that the fault goes deeper.
    size_t at = draw() % (4 * 512);
    broken[at] = char(draw() % 2 ? draw() : "0179 =\n"[draw() % 7]);
    for (size_t block : {size_t(0), size_t(1024)}) {
      std::memset(&broken[block + 148], ' ', 8);
      unsigned sum = 0;
      for (size_t i = 0; i < 512; ++i)
        sum += uint8_t(broken[block + i]);
      std::snprintf(&broken[block + 148], 8, "%06o", sum);
    }
    if (draw() % 4 == 0)
      broken.resize(draw() % broken.size());
    try {
      readText(broken);
    } catch (const Error &) {
    }
  }
}

} // namespace
