//===- Graph.cpp - CUDA graphs ----------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Cuda/Driver.h"

#include <algorithm>

using namespace sgpu;
using namespace sgpu::cuda;
using namespace abi;

CUgraphNode sgpu::cuda::addNode(CUgraph graph, TaskRef task, std::vector<CUgraphNode> dependencies) {
  auto node = std::make_unique<CUgraphNode_st>();
  node->graph = graph;
  node->task = std::move(task);
  node->dependencies = std::move(dependencies);
  CUgraphNode n = node.get();
  state().nodes.insert(n);
  graph->nodes.push_back(std::move(node));
  return n;
}

void sgpu::cuda::destroyGraph(CUgraph graph) {
  for (const auto &node : graph->nodes) {
    state().nodes.erase(node.get());
    if (node->child)
      destroyGraph(node->child);
  }
  state().graphs.remove(graph);
}
