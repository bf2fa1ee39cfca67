//===- Jpeg.cpp - Decode JPEG ---------------------------------------------===//
//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "src/Data/Decode.h"
#include "src/Data/Error.h"

#include <csetjmp>
#include <cstdio>

#include <jpeglib.h> // wants cstdio before it
//
#include <jerror.h> // wants jpeglib.h before it

namespace llrt {

namespace {

// libjpeg's faults are reported by a jump. Between setjmp and the jump only
// plain functions of its own run: no object with a destructor is made in there.
struct JpegState {
  jpeg_error_mgr manager; // first: libjpeg hands it back
  jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

[[noreturn]] void onJpegError(j_common_ptr jpeg) {
  auto *state = reinterpret_cast<JpegState *>(jpeg->err);
  jpeg->err->format_message(jpeg, state->message);
  longjmp(state->jump, 1);
}

// libjpeg warns of a missing end and goes on with gray; that is an error here,
// as in PIL. Its other warnings (stray bytes, odd headers) are passed over.
void onJpegMessage(j_common_ptr jpeg, int level) {
  if (level < 0 && jpeg->err->msg_code == JWRN_JPEG_EOF)
    onJpegError(jpeg);
}

bool startJpeg(jpeg_decompress_struct &jpeg, JpegState &state, std::string_view bytes) {
  if (setjmp(state.jump))
    return false;
  jpeg_create_decompress(&jpeg);
  jpeg_mem_src(&jpeg, reinterpret_cast<const unsigned char *>(bytes.data()), bytes.size());
  jpeg_save_markers(&jpeg, JPEG_APP0 + 1, 0xFFFF); // EXIF and XMP
  jpeg_read_header(&jpeg, TRUE);
  bool fourInks = jpeg.jpeg_color_space == JCS_CMYK || jpeg.jpeg_color_space == JCS_YCCK;
  jpeg.out_color_space = fourInks ? JCS_CMYK : JCS_RGB;
  jpeg_calc_output_dimensions(&jpeg);
  return true;
}

bool readJpegRows(jpeg_decompress_struct &jpeg, JpegState &state, uint8_t *to) {
  if (setjmp(state.jump))
    return false;
  jpeg_start_decompress(&jpeg);
  size_t rowBytes = size_t(jpeg.output_width) * size_t(jpeg.output_components);
  while (jpeg.output_scanline < jpeg.output_height) {
    JSAMPROW row = to + rowBytes * jpeg.output_scanline;
    jpeg_read_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_decompress(&jpeg);
  return true;
}

int jpegOrientation(const jpeg_decompress_struct &jpeg) {
  constexpr std::string_view exifMark("Exif\0\0", 6);
  constexpr std::string_view xmpMark("http://ns.adobe.com/xap/1.0/\0", 29);
  std::string exif;
  std::string_view xmp;
  for (auto *marker = jpeg.marker_list; marker; marker = marker->next) {
    std::string_view data(reinterpret_cast<const char *>(marker->data), marker->data_length);
    if (data.starts_with(exifMark)) // long data goes on in the next marker
      exif += data.substr(exifMark.size());
    else if (data.starts_with(xmpMark))
      xmp = data.substr(xmpMark.size());
  }
  return readOrientation(exif, xmp);
}

} // namespace

Decoded decodeJpeg(std::string_view bytes, const std::string &name) {
  struct Reader {
    jpeg_decompress_struct jpeg = {};
    JpegState state = {};
    ~Reader() { jpeg_destroy_decompress(&jpeg); }
  } reader;
  reader.jpeg.err = jpeg_std_error(&reader.state.manager);
  reader.state.manager.error_exit = onJpegError;
  reader.state.manager.emit_message = onJpegMessage;
  if (!startJpeg(reader.jpeg, reader.state, bytes))
    fail(name, ": broken JPEG: ", reader.state.message);

  Image image = makeImage(reader.jpeg.output_width, reader.jpeg.output_height, name);
  int orientation = jpegOrientation(reader.jpeg); // the end frees markers
  bool hasInks = reader.jpeg.out_color_space == JCS_CMYK;
  std::vector<uint8_t> inks(hasInks ? image.pixels.size() / 3 * 4 : 0);
  if (!readJpegRows(reader.jpeg, reader.state, hasInks ? inks.data() : image.pixels.data()))
    fail(name, ": broken JPEG: ", reader.state.message);
  // Inks are stored inverted, as Adobe does and PIL assumes.
  uint8_t *to = image.pixels.data();
  for (size_t at = 0; at < inks.size(); at += 4)
    for (size_t ink = 0; ink < 3; ++ink)
      *to++ = fromInk(255 - inks[at + ink], 255 - inks[at + 3]);
  return {std::move(image), orientation};
}

} // namespace llrt
