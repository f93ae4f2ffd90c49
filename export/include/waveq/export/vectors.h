#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "waveq/export/target.h"
#include "waveq/integerize/bounds.h"

/// Golden vectors for one kernel at a time: inputs that are designed to hit what goes wrong in
/// kernels (integer-approximations.md 16), with the outputs of the normative arithmetic.
namespace waveq {

/// One set of inputs of a kernel, why it is there, and the answer.
struct VectorCase {
  std::vector<std::string>
      conditions;               ///< what the case covers, e.g. "all_min", "tie_negative:channel_2"
  std::vector<Tensor> inputs;   ///< one a graph input of KernelVectors::graph
  std::vector<Tensor> outputs;  ///< computed under Overflow::error
};

/// A condition that no case covers, and why.
struct UnreachedCondition {
  std::string condition, why;  ///< as in VectorCase::conditions; what makes it unreachable
};

/// What an input may hold: the values of its dtype for 8 and 16 bits, of float32 those that a Quant
/// can convert, else what the network can deliver.
struct VectorInput {
  std::string name;
  TensorType type;        ///< as stored on the device
  double lo = 0, hi = 0;  ///< over all elements
};

/// The vectors of one node.
struct KernelVectors {
  std::string node, op;                       ///< name and operator in the network
  Graph graph;                                ///< the node alone, with its constants
  std::vector<VectorInput> inputs;            ///< one a graph input of `graph`, in its order
  std::vector<VectorCase> cases;              ///< designed ones first
  std::vector<UnreachedCondition> unreached;  ///< with the cases that would overflow
};

struct VectorOptions {
  std::uint64_t seed = 0;  ///< of the drawn cases
  std::size_t random = 3;  ///< drawn cases after the designed ones
  /// Leave the designed cases out (to measure what design is worth).
  bool designed = true;
  /// Inputs that a foreign network carries as 32 bits take the 8-bit type that holds them.
  bool narrow = true;
};

/// Nodes for which a target has a kernel, in topological order: what only names, types or shapes is
/// left out.
std::vector<NodeId> kernel_nodes(const Graph& integer_graph);

/// Designs the cases of one node. Inputs wider than 16 bits take the interval that `bounds` proves
/// for them, or +-2^20 where that leaves int32. A case that would overflow is left out and listed.
/// A Quant's float32 input takes what its kernel can convert to int32.
/// \throws Error{unsupported} for a node of floats (other than Quant and Dequant at their outer
/// side) or with an empty tensor.
KernelVectors kernel_vectors(BoundsAnalysis& bounds, NodeId node,
                             const VectorOptions& options = {});

/// A self-contained C99 header: constants, attributes, inputs and expected outputs of all cases as
/// aligned arrays of the device's types, and a macro for each output that prints the first
/// mismatch. Names in it start with waveq_<name>, where `name` is the node's unless given.
std::string vectors_header(const KernelVectors& vectors, const std::string& name = {});

/// One operator with given parameters, in words: what `waveq vectors --op` takes.
struct OperatorSpec {
  std::string op;
  std::string node = {};  ///< its name; empty: the operator's
  /// One a slot: DTYPE[DIMS] varies over the type (32 bits: -2^20..2^20; f32 only for Quant),
  /// DTYPE[DIMS]=LO..HI varies in an interval; constant are DTYPE[DIMS]:1,2,3 (a single value
  /// fills), :LO..HI and :random, both drawn.
  std::vector<std::string> operands = {};
  std::vector<std::string> attributes = {};  ///< NAME=1, NAME=0.5, NAME=[1,2], NAME=text
  std::uint64_t seed = 0;                    ///< of drawn constants
};

/// The node alone, and the intervals that its inputs were given by name.
struct OperatorNetwork {
  Graph graph;
  std::map<std::string, Interval> ranges;  ///< of the varying inputs, by name
};

/// \throws Error{invalid_argument} for text that does not read; errors of the operator's inference.
OperatorNetwork operator_network(const OperatorSpec& spec);

struct VectorFolderOptions {
  VectorOptions vectors = {};
  std::map<std::string, Interval> ranges =
      {};                 ///< intervals of graph inputs by name, instead of derived ones
  std::string node = {};  ///< one node alone, by its name or its origin; empty: all
  bool deeploy = true, c_header = true;    ///< what to write
  std::string target = "deeploy-generic";  ///< whose dialect the folders are written in
};

struct VectorFolderReport {
  std::size_t nodes = 0, cases = 0;
  std::vector<UnreachedCondition> skipped;  ///< nodes without vectors, and why
};

/// Writes `dir/NODE/{case_K/{network.onnx,inputs.npz,outputs.npz}, vectors.h, cases.json}` and
/// `dir/manifest.json`, as a whole or not at all. `model` is named and hashed in the manifest,
/// unless it is empty. \throws Error{invalid_argument} where `dir` is not ours to replace or no
/// node has the asked name; Error{io}.
VectorFolderReport write_vectors(const Graph& integer_graph, const std::filesystem::path& model,
                                 const std::filesystem::path& dir,
                                 const VectorFolderOptions& options = {});

}  // namespace waveq
