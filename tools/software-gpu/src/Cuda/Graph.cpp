//===- Graph.cpp - CUDA graphs ----------------------------------------------===//
// Part of llamac, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
#include "Cuda/Driver.h"

#include <algorithm>
#include <cstring>

using namespace sgpu;
using namespace sgpu::cuda;
using namespace sgpu::abi;

//===----------------------------------------------------------------------===//
// Graphs and their nodes
//===----------------------------------------------------------------------===//

CUgraphNode sgpu::cuda::addNode(CUgraph graph, TaskRef task,
                                std::vector<CUgraphNode> dependencies) {
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

static CUgraph findGraph(CUgraph graph) {
  require(graph && state().graphs.contains(graph));
  return graph;
}

static CUgraphNode findNode(CUgraphNode node) {
  require(node && state().nodes.contains(node));
  return node;
}

static CUgraphExec findExec(CUgraphExec exec) {
  require(exec && state().graphExecs.contains(exec));
  return exec;
}

static CUgraph makeGraph(CUcontext context) {
  auto graph = std::make_unique<CUgraph_st>();
  graph->context = context;
  return state().graphs.add(std::move(graph));
}

static CUgraph clone(CUgraph graph) {
  CUgraph copy = makeGraph(graph->context);
  copy->memory = graph->memory;
  std::map<CUgraphNode, CUgraphNode> image;
  for (const auto &node : graph->nodes) {
    CUgraphNode n = addNode(copy, node->task, {});
    n->child = node->child ? clone(node->child) : nullptr;
    image[node.get()] = n;
  }
  for (const auto &node : graph->nodes)
    for (CUgraphNode d : node->dependencies)
      image[node.get()]->dependencies.push_back(image[d]);
  return copy;
}

CUresult abi::cuGraphCreate(CUgraph *phGraph, unsigned int flags) {
  return call([&](Driver &, Lock &) {
    require(phGraph && !flags);
    std::vector<CUcontext> &stack = contextStack();
    *phGraph = makeGraph(stack.empty() ? nullptr : stack.back());
  });
}

CUresult abi::cuGraphClone(CUgraph *phGraphClone, CUgraph originalGraph) {
  return call([&](Driver &, Lock &) {
    require(phGraphClone);
    *phGraphClone = clone(findGraph(originalGraph));
  });
}

CUresult abi::cuGraphDestroy(CUgraph hGraph) {
  return call([&](Driver &, Lock &) {
    CUgraph graph = findGraph(hGraph);
    for (const auto &[id, c] : state().captures)
      require(c->graph != graph);
    destroyGraph(graph);
  });
}

CUresult abi::cuGraphDestroyNode(CUgraphNode hNode) {
  return call([&](Driver &, Lock &) {
    CUgraphNode n = findNode(hNode);
    CUgraph graph = n->graph;
    for (const auto &other : graph->nodes)
      std::erase(other->dependencies, n);
    if (n->child)
      destroyGraph(n->child);
    state().nodes.erase(n);
    std::erase_if(graph->nodes, [&](const auto &p) { return p.get() == n; });
  });
}

static std::vector<CUgraphNode> dependenciesOf(CUgraph graph, const CUgraphNode *nodes,
                                               size_t count) {
  require(!count || nodes);
  std::vector<CUgraphNode> list;
  for (size_t i = 0; i < count; ++i) {
    require(findNode(nodes[i])->graph == graph);
    require(std::find(list.begin(), list.end(), nodes[i]) == list.end());
    list.push_back(nodes[i]);
  }
  return list;
}

static TaskRef kernelTask(const CUDA_KERNEL_NODE_PARAMS &p) {
  LaunchConfig c;
  c.grid = {p.gridDimX, p.gridDimY, p.gridDimZ};
  c.block = {p.blockDimX, p.blockDimY, p.blockDimZ};
  c.dynamicShared = p.sharedMemBytes;
  return launchTask(findFunction(p.func ? p.func : reinterpret_cast<CUfunction>(p.kern)), c,
                    p.kernelParams, p.extra);
}

/// Adds the node that `make` gives the task of.
template <typename F>
static CUresult add(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                    size_t numDependencies, F make) {
  return call([&](Driver &driver, Lock &) {
    CUgraph graph = findGraph(hGraph);
    require(phGraphNode);
    std::vector<CUgraphNode> before = dependenciesOf(graph, dependencies, numDependencies);
    *phGraphNode = addNode(graph, make(driver), std::move(before));
  });
}

static TaskRef copyNodeTask(Driver &driver, const CUDA_MEMCPY3D *p) {
  require(p && p->WidthInBytes && p->Height && p->Depth);
  bool pageable;
  return copyTask(driver, "cuGraphAddMemcpyNode", *p, false, pageable);
}

static TaskRef setNodeTask(Driver &driver, const CUDA_MEMSET_NODE_PARAMS *p) {
  require(p && p->width && p->height);
  return setTask(driver, "cuGraphAddMemsetNode", p->dst, p->pitch, p->value, p->elementSize,
                 p->width, p->height);
}

static TaskRef hostNodeTask(const CUDA_HOST_NODE_PARAMS *p) {
  require(p && p->fn);
  return hostTask("cuGraphAddHostNode", p->fn, p->userData);
}

CUresult abi::cuGraphAddKernelNode_v2(CUgraphNode *phGraphNode, CUgraph hGraph,
                                      const CUgraphNode *dependencies, size_t numDependencies,
                                      const CUDA_KERNEL_NODE_PARAMS *nodeParams) {
  return add(phGraphNode, hGraph, dependencies, numDependencies, [&](Driver &) {
    require(nodeParams);
    return kernelTask(*nodeParams);
  });
}

CUresult abi::cuGraphAddMemcpyNode(CUgraphNode *phGraphNode, CUgraph hGraph,
                                   const CUgraphNode *dependencies, size_t numDependencies,
                                   const CUDA_MEMCPY3D *copyParams, CUcontext ctx) {
  return add(phGraphNode, hGraph, dependencies, numDependencies, [&](Driver &driver) {
    require(!ctx || state().contexts.contains(ctx));
    return copyNodeTask(driver, copyParams);
  });
}

CUresult abi::cuGraphAddMemsetNode(CUgraphNode *phGraphNode, CUgraph hGraph,
                                   const CUgraphNode *dependencies, size_t numDependencies,
                                   const CUDA_MEMSET_NODE_PARAMS *p, CUcontext ctx) {
  return add(phGraphNode, hGraph, dependencies, numDependencies, [&](Driver &driver) {
    require(!ctx || state().contexts.contains(ctx));
    return setNodeTask(driver, p);
  });
}

CUresult abi::cuGraphAddHostNode(CUgraphNode *phGraphNode, CUgraph hGraph,
                                 const CUgraphNode *dependencies, size_t numDependencies,
                                 const CUDA_HOST_NODE_PARAMS *nodeParams) {
  return add(phGraphNode, hGraph, dependencies, numDependencies,
             [&](Driver &) { return hostNodeTask(nodeParams); });
}

TaskRef sgpu::cuda::emptyTask(CUgraphNodeType type) {
  auto task = std::make_shared<Task>();
  task->type = type;
  task->name = "a node of a graph";
  return task;
}

CUresult abi::cuGraphAddEmptyNode(CUgraphNode *phGraphNode, CUgraph hGraph,
                                  const CUgraphNode *dependencies, size_t numDependencies) {
  return add(phGraphNode, hGraph, dependencies, numDependencies,
             [&](Driver &) { return emptyTask(CU_GRAPH_NODE_TYPE_EMPTY); });
}

CUresult abi::cuGraphAddChildGraphNode(CUgraphNode *phGraphNode, CUgraph hGraph,
                                       const CUgraphNode *dependencies, size_t numDependencies,
                                       CUgraph childGraph) {
  return call([&](Driver &, Lock &) {
    CUgraph graph = findGraph(hGraph), child = findGraph(childGraph);
    require(phGraphNode && graph != child);
    std::vector<CUgraphNode> before = dependenciesOf(graph, dependencies, numDependencies);
    *phGraphNode = addNode(graph, emptyTask(CU_GRAPH_NODE_TYPE_GRAPH), std::move(before));
    (*phGraphNode)->child = clone(child);
  });
}

/// All nodes of a graph, each after those that it depends on; among these in order of creation.
/// Fails if they form a circle.
static std::vector<CUgraphNode> inOrder(CUgraph graph) {
  std::vector<CUgraphNode> order;
  std::set<CUgraphNode> done;
  while (order.size() < graph->nodes.size()) {
    size_t before = order.size();
    for (const auto &node : graph->nodes)
      if (!done.contains(node.get()) &&
          std::all_of(node->dependencies.begin(), node->dependencies.end(),
                      [&](CUgraphNode d) { return done.contains(d); })) {
        order.push_back(node.get());
        done.insert(node.get());
      }
    require(order.size() > before);
  }
  return order;
}

/// Adds edges that are not there, or removes those that are. Only plain edges exist.
static CUresult changeEdges(CUgraph hGraph, const CUgraphNode *from, const CUgraphNode *to,
                            const CUgraphEdgeData *edgeData, size_t count, bool adds) {
  return call([&](Driver &, Lock &) {
    CUgraph graph = findGraph(hGraph);
    require(!count || (from && to));
    for (size_t i = 0; i < count; ++i) {
      require(findNode(from[i])->graph == graph && findNode(to[i])->graph == graph &&
              from[i] != to[i]);
      static const CUgraphEdgeData plain{};
      require(!edgeData || !std::memcmp(&edgeData[i], &plain, sizeof plain),
              CUDA_ERROR_NOT_SUPPORTED);
      std::vector<CUgraphNode> &list = to[i]->dependencies;
      auto found = std::find(list.begin(), list.end(), from[i]);
      require((found == list.end()) == adds);
      if (adds)
        list.push_back(from[i]);
      else
        list.erase(found);
    }
  });
}

CUresult abi::cuGraphAddDependencies_v2(CUgraph hGraph, const CUgraphNode *from,
                                        const CUgraphNode *to, const CUgraphEdgeData *edgeData,
                                        size_t numDependencies) {
  return changeEdges(hGraph, from, to, edgeData, numDependencies, true);
}
CUresult abi::cuGraphRemoveDependencies_v2(CUgraph hGraph, const CUgraphNode *from,
                                           const CUgraphNode *to, const CUgraphEdgeData *edgeData,
                                           size_t numDependencies) {
  return changeEdges(hGraph, from, to, edgeData, numDependencies, false);
}

// The forms of programs that were built before CUDA 13, without data of edges.
CUresult abi::cuGraphAddDependencies(CUgraph hGraph, const CUgraphNode *from, const CUgraphNode *to,
                                     size_t numDependencies) {
  return cuGraphAddDependencies_v2(hGraph, from, to, nullptr, numDependencies);
}
CUresult abi::cuGraphRemoveDependencies(CUgraph hGraph, const CUgraphNode *from,
                                        const CUgraphNode *to, size_t numDependencies) {
  return cuGraphRemoveDependencies_v2(hGraph, from, to, nullptr, numDependencies);
}
CUresult abi::cuGraphGetEdges(CUgraph hGraph, CUgraphNode *from, CUgraphNode *to,
                              size_t *numEdges) {
  return cuGraphGetEdges_v2(hGraph, from, to, nullptr, numEdges);
}
CUresult abi::cuGraphNodeGetDependencies(CUgraphNode hNode, CUgraphNode *dependencies,
                                         size_t *numDependencies) {
  return cuGraphNodeGetDependencies_v2(hNode, dependencies, nullptr, numDependencies);
}
CUresult abi::cuGraphNodeGetDependentNodes(CUgraphNode hNode, CUgraphNode *dependentNodes,
                                           size_t *numDependentNodes) {
  return cuGraphNodeGetDependentNodes_v2(hNode, dependentNodes, nullptr, numDependentNodes);
}

/// Gives a list as the API does: its length if there is no room for it, else its items; nulls where
/// there is more room than items.
template <typename T> static void give(const std::vector<T> &list, T *to, size_t *count) {
  require(count);
  if (to)
    for (size_t i = 0; i < *count; ++i)
      to[i] = i < list.size() ? list[i] : T();
  *count = to ? std::min(*count, list.size()) : list.size();
}

CUresult abi::cuGraphGetNodes(CUgraph hGraph, CUgraphNode *nodes, size_t *numNodes) {
  return call([&](Driver &, Lock &) {
    std::vector<CUgraphNode> list;
    for (const auto &node : findGraph(hGraph)->nodes)
      list.push_back(node.get());
    give(list, nodes, numNodes);
  });
}

CUresult abi::cuGraphGetRootNodes(CUgraph hGraph, CUgraphNode *rootNodes, size_t *numRootNodes) {
  return call([&](Driver &, Lock &) {
    std::vector<CUgraphNode> list;
    for (const auto &node : findGraph(hGraph)->nodes)
      if (node->dependencies.empty())
        list.push_back(node.get());
    give(list, rootNodes, numRootNodes);
  });
}

CUresult abi::cuGraphGetEdges_v2(CUgraph hGraph, CUgraphNode *from, CUgraphNode *to,
                                 CUgraphEdgeData *edgeData, size_t *numEdges) {
  return call([&](Driver &, Lock &) {
    std::vector<CUgraphNode> sources, targets;
    for (const auto &node : findGraph(hGraph)->nodes)
      for (CUgraphNode d : node->dependencies) {
        sources.push_back(d);
        targets.push_back(node.get());
      }
    require(numEdges && (!from == !to));
    size_t room = *numEdges;
    if (edgeData && from)
      std::memset(edgeData, 0, room * sizeof *edgeData);
    give(sources, from, &room);
    give(targets, to, numEdges);
  });
}

CUresult abi::cuGraphNodeGetDependencies_v2(CUgraphNode hNode, CUgraphNode *dependencies,
                                            CUgraphEdgeData *edgeData, size_t *numDependencies) {
  return call([&](Driver &, Lock &) {
    CUgraphNode n = findNode(hNode);
    require(numDependencies);
    if (edgeData && dependencies)
      std::memset(edgeData, 0, *numDependencies * sizeof *edgeData);
    give(n->dependencies, dependencies, numDependencies);
  });
}

CUresult abi::cuGraphNodeGetDependentNodes_v2(CUgraphNode hNode, CUgraphNode *dependentNodes,
                                              CUgraphEdgeData *edgeData,
                                              size_t *numDependentNodes) {
  return call([&](Driver &, Lock &) {
    CUgraphNode n = findNode(hNode);
    require(numDependentNodes);
    std::vector<CUgraphNode> list;
    for (const auto &other : n->graph->nodes)
      if (std::find(other->dependencies.begin(), other->dependencies.end(), n) !=
          other->dependencies.end())
        list.push_back(other.get());
    if (edgeData && dependentNodes)
      std::memset(edgeData, 0, *numDependentNodes * sizeof *edgeData);
    give(list, dependentNodes, numDependentNodes);
  });
}

CUresult abi::cuGraphNodeGetType(CUgraphNode hNode, CUgraphNodeType *type) {
  return call([&](Driver &, Lock &) {
    require(type);
    *type = findNode(hNode)->task->type;
  });
}

// Pointers to the parameters stay valid as long as the node keeps them.
CUresult abi::cuGraphKernelNodeGetParams_v2(CUgraphNode hNode, CUDA_KERNEL_NODE_PARAMS *p) {
  return call([&](Driver &, Lock &) {
    CUgraphNode n = findNode(hNode);
    require(p && n->task->function);
    const LaunchConfig &c = *n->task->launch;
    const KernelInfo &k = *n->task->function->info;
    n->parameters.clear();
    for (uint32_t offset : k.paramOffsets)
      n->parameters.push_back(n->task->launch->parameters.data() + offset);
    *p = {};
    p->func = n->task->function;
    p->gridDimX = c.grid.x, p->gridDimY = c.grid.y, p->gridDimZ = c.grid.z;
    p->blockDimX = c.block.x, p->blockDimY = c.block.y, p->blockDimZ = c.block.z;
    p->sharedMemBytes = c.dynamicShared;
    p->kernelParams = n->parameters.data();
  });
}

CUresult abi::cuGraphKernelNodeSetParams_v2(CUgraphNode hNode, const CUDA_KERNEL_NODE_PARAMS *p) {
  return call([&](Driver &, Lock &) {
    CUgraphNode n = findNode(hNode);
    require(p && n->task->function);
    n->task = kernelTask(*p);
  });
}

/// A node of this type.
static CUgraphNode findNode(CUgraphNode node, CUgraphNodeType type) {
  require(findNode(node)->task->type == type);
  return node;
}

CUresult abi::cuGraphMemcpyNodeGetParams(CUgraphNode hNode, CUDA_MEMCPY3D *nodeParams) {
  return call([&](Driver &, Lock &) {
    CUgraphNode n = findNode(hNode, CU_GRAPH_NODE_TYPE_MEMCPY);
    require(nodeParams);
    *nodeParams = n->task->copy;
  });
}

CUresult abi::cuGraphMemcpyNodeSetParams(CUgraphNode hNode, const CUDA_MEMCPY3D *nodeParams) {
  return call([&](Driver &driver, Lock &) {
    findNode(hNode, CU_GRAPH_NODE_TYPE_MEMCPY)->task = copyNodeTask(driver, nodeParams);
  });
}

CUresult abi::cuGraphMemsetNodeGetParams(CUgraphNode hNode, CUDA_MEMSET_NODE_PARAMS *nodeParams) {
  return call([&](Driver &, Lock &) {
    CUgraphNode n = findNode(hNode, CU_GRAPH_NODE_TYPE_MEMSET);
    require(nodeParams);
    *nodeParams = n->task->set;
  });
}

CUresult abi::cuGraphMemsetNodeSetParams(CUgraphNode hNode,
                                         const CUDA_MEMSET_NODE_PARAMS *nodeParams) {
  return call([&](Driver &driver, Lock &) {
    findNode(hNode, CU_GRAPH_NODE_TYPE_MEMSET)->task = setNodeTask(driver, nodeParams);
  });
}

CUresult abi::cuGraphHostNodeGetParams(CUgraphNode hNode, CUDA_HOST_NODE_PARAMS *nodeParams) {
  return call([&](Driver &, Lock &) {
    CUgraphNode n = findNode(hNode, CU_GRAPH_NODE_TYPE_HOST);
    require(nodeParams);
    *nodeParams = n->task->hostFunction;
  });
}

CUresult abi::cuGraphHostNodeSetParams(CUgraphNode hNode, const CUDA_HOST_NODE_PARAMS *nodeParams) {
  return call([&](Driver &, Lock &) {
    findNode(hNode, CU_GRAPH_NODE_TYPE_HOST)->task = hostNodeTask(nodeParams);
  });
}

CUresult abi::cuGraphChildGraphNodeGetGraph(CUgraphNode hNode, CUgraph *phGraph) {
  return call([&](Driver &, Lock &) {
    CUgraphNode n = findNode(hNode, CU_GRAPH_NODE_TYPE_GRAPH);
    require(phGraph);
    *phGraph = n->child;
  });
}

//===----------------------------------------------------------------------===//
// Executable graphs
//===----------------------------------------------------------------------===//

/// Adds the nodes of a graph, those of children in their places; each child ends with its own node.
static void flatten(CUgraph graph, std::vector<unsigned> roots,
                    std::vector<CUgraphExec_st::Node> &to) {
  std::map<CUgraphNode, unsigned> index;
  for (CUgraphNode n : inOrder(graph)) {
    CUgraphExec_st::Node node;
    node.origin = n;
    node.task = n->task;
    for (CUgraphNode d : n->dependencies)
      node.dependencies.push_back(index[d]);
    for (CUgraphNode d : n->leftOut)
      node.leftOut.push_back(index[d]);
    if (n->dependencies.empty())
      node.dependencies = roots;
    if (n->child) {
      unsigned first = unsigned(to.size());
      flatten(n->child, node.dependencies, to);
      for (unsigned i = first; i < to.size(); ++i)
        node.dependencies.push_back(i);
    }
    index[n] = unsigned(to.size());
    to.push_back(std::move(node));
  }
}

CUresult abi::cuGraphInstantiateWithFlags(CUgraphExec *phGraphExec, CUgraph hGraph,
                                          unsigned long long flags) {
  return call([&](Driver &driver, Lock &) {
    CUgraph graph = findGraph(hGraph);
    constexpr unsigned long long autoFree = 1, nodePriority = 8;
    require(phGraphExec && !(flags & ~(autoFree | nodePriority)));
    for (const auto &[id, c] : state().captures)
      require(c->graph != graph, CUDA_ERROR_ILLEGAL_STATE);
    auto exec = std::make_unique<CUgraphExec_st>();
    flatten(graph, {}, exec->nodes);
    exec->context = graph->context ? graph->context : current();
    exec->flags = flags;
    // A node continues the chain of one that it depends on, unless another one does already.
    std::set<unsigned> continued;
    bool streamTaken = false;
    for (CUgraphExec_st::Node &n : exec->nodes) {
      auto d = std::find_if(n.dependencies.begin(), n.dependencies.end(),
                            [&](unsigned i) { return !continued.contains(i); });
      if (d != n.dependencies.end()) {
        n.chain = exec->nodes[*d].chain;
        continued.insert(*d);
      } else if (n.dependencies.empty() && !streamTaken) {
        streamTaken = true;
      } else {
        n.chain = driver.newChain();
      }
    }
    *phGraphExec = state().graphExecs.add(std::move(exec));
  });
}

CUresult abi::cuGraphExecDestroy(CUgraphExec hGraphExec) {
  return call([&](Driver &, Lock &) { state().graphExecs.remove(findExec(hGraphExec)); });
}

CUresult abi::cuGraphExecGetFlags(CUgraphExec hGraphExec, cuuint64_t *flags) {
  return call([&](Driver &, Lock &) {
    require(flags);
    *flags = findExec(hGraphExec)->flags;
  });
}

// The new graph has the same shape: nodes in order of creation have the same types and
// dependencies. What they do is taken over for launches from now on.
CUresult abi::cuGraphExecUpdate_v2(CUgraphExec hGraphExec, CUgraph hGraph,
                                   CUgraphExecUpdateResultInfo *resultInfo) {
  return call([&](Driver &, Lock &) {
    CUgraphExec exec = findExec(hGraphExec);
    CUgraph graph = findGraph(hGraph);
    CUgraphExecUpdateResultInfo info{CU_GRAPH_EXEC_UPDATE_SUCCESS, nullptr, nullptr};
    std::vector<CUgraphExec_st::Node> nodes;
    flatten(graph, {}, nodes);
    auto refuse = [&](CUgraphExecUpdateResult result, CUgraphNode node) {
      info = {result, node, nullptr};
      if (resultInfo)
        *resultInfo = info;
      fail(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
    };
    if (nodes.size() != exec->nodes.size())
      refuse(CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED,
             nodes.size() > exec->nodes.size() ? nodes[exec->nodes.size()].origin : nullptr);
    for (size_t i = 0; i < nodes.size(); ++i) {
      const CUgraphExec_st::Node &was = exec->nodes[i], &is = nodes[i];
      if (was.dependencies != is.dependencies)
        refuse(CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, is.origin);
      if (was.task->type != is.task->type)
        refuse(CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED, is.origin);
      if (was.task->function && is.task->function &&
          was.task->function->module->context != is.task->function->module->context)
        refuse(CU_GRAPH_EXEC_UPDATE_ERROR_UNSUPPORTED_FUNCTION_CHANGE, is.origin);
    }
    for (size_t i = 0; i < nodes.size(); ++i) {
      exec->nodes[i].task = nodes[i].task;
    }
    if (resultInfo)
      *resultInfo = info;
  });
}

/// The node of an executable graph that was made of a node of this type.
static CUgraphExec_st::Node &nodeOf(CUgraphExec hGraphExec, CUgraphNode origin,
                                    CUgraphNodeType type) {
  CUgraphExec exec = findExec(hGraphExec);
  auto n = std::find_if(exec->nodes.begin(), exec->nodes.end(),
                        [&](const auto &node) { return node.origin == origin; });
  require(n != exec->nodes.end() && n->task->type == type);
  return *n;
}

CUresult abi::cuGraphExecKernelNodeSetParams_v2(CUgraphExec hGraphExec, CUgraphNode hNode,
                                                const CUDA_KERNEL_NODE_PARAMS *nodeParams) {
  return call([&](Driver &, Lock &) {
    CUgraphExec_st::Node &n = nodeOf(hGraphExec, hNode, CU_GRAPH_NODE_TYPE_KERNEL);
    require(nodeParams && n.task->function);
    n.task = kernelTask(*nodeParams);
  });
}

CUresult abi::cuGraphExecMemcpyNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                             const CUDA_MEMCPY3D *copyParams, CUcontext) {
  return call([&](Driver &driver, Lock &) {
    nodeOf(hGraphExec, hNode, CU_GRAPH_NODE_TYPE_MEMCPY).task = copyNodeTask(driver, copyParams);
  });
}

CUresult abi::cuGraphExecMemsetNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                             const CUDA_MEMSET_NODE_PARAMS *memsetParams,
                                             CUcontext) {
  return call([&](Driver &driver, Lock &) {
    nodeOf(hGraphExec, hNode, CU_GRAPH_NODE_TYPE_MEMSET).task = setNodeTask(driver, memsetParams);
  });
}

CUresult abi::cuGraphExecHostNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                           const CUDA_HOST_NODE_PARAMS *nodeParams) {
  return call([&](Driver &, Lock &) {
    nodeOf(hGraphExec, hNode, CU_GRAPH_NODE_TYPE_HOST).task = hostNodeTask(nodeParams);
  });
}

/// Only kernels, memsets and copies can be left out.
static CUgraphExec_st::Node &switchable(CUgraphExec hGraphExec, CUgraphNode hNode) {
  CUgraphNodeType type = findNode(hNode)->task->type;
  require(type == CU_GRAPH_NODE_TYPE_KERNEL || type == CU_GRAPH_NODE_TYPE_MEMSET ||
          type == CU_GRAPH_NODE_TYPE_MEMCPY);
  return nodeOf(hGraphExec, hNode, type);
}

CUresult abi::cuGraphNodeSetEnabled(CUgraphExec hGraphExec, CUgraphNode hNode,
                                    unsigned int isEnabled) {
  return call([&](Driver &, Lock &) { switchable(hGraphExec, hNode).enabled = isEnabled != 0; });
}

CUresult abi::cuGraphNodeGetEnabled(CUgraphExec hGraphExec, CUgraphNode hNode,
                                    unsigned int *isEnabled) {
  return call([&](Driver &, Lock &) {
    require(isEnabled);
    *isEnabled = switchable(hGraphExec, hNode).enabled;
  });
}

CUresult abi::cuGraphUpload(CUgraphExec hGraphExec, CUstream hStream) {
  return call([&](Driver &, Lock &) {
    findExec(hGraphExec);
    findStream(hStream);
  });
}

// Two launches of one executable graph never overlap.
CUresult abi::cuGraphLaunch(CUgraphExec hGraphExec, CUstream hStream) {
  return call([&](Driver &driver, Lock &lock) {
    CUgraphExec exec = findExec(hGraphExec);
    CUstream stream = findStream(hStream);
    count(stream, "cuGraphLaunch");
    if (stream->capture) { // its nodes become nodes of the graph that is captured
      require(!stream->capture->invalid, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
      CUgraph graph = stream->capture->graph;
      std::vector<CUgraphNode> nodes;
      for (const CUgraphExec_st::Node &n : exec->nodes) {
        std::vector<CUgraphNode> before;
        for (unsigned d : n.dependencies)
          before.push_back(nodes[d]);
        nodes.push_back(addNode(graph, n.enabled ? n.task : emptyTask(CU_GRAPH_NODE_TYPE_EMPTY),
                                before.empty() ? stream->captureTail : before));
      }
      if (!nodes.empty())
        stream->captureTail = {addNode(graph, emptyTask(CU_GRAPH_NODE_TYPE_EMPTY), nodes)};
      return;
    }
    OpRef start = mark(lock, stream, {exec->last});
    std::vector<OpRef> ops;
    TaskRef nothing = emptyTask(CU_GRAPH_NODE_TYPE_EMPTY);
    for (const CUgraphExec_st::Node &n : exec->nodes) {
      std::vector<OpRef> after, leftOut;
      for (unsigned d : n.dependencies)
        after.push_back(ops[d]);
      for (unsigned d : n.leftOut)
        leftOut.push_back(ops[d]);
      if (after.empty())
        after.push_back(start);
      ops.push_back(driver.newOp(stream->context, n.enabled ? n.task : nothing,
                                 n.chain ? n.chain : stream->chain, after, lock, leftOut));
    }
    ops.push_back(start);
    exec->last = mark(lock, stream, ops);
  });
}
