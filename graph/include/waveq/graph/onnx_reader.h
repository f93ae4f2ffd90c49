#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "waveq/graph/graph.h"

namespace waveq {

struct ReadOptions {
  /// Shapes of graph inputs with open dimensions (`--input-shape NAME=1,1,8192`), each dimension
  /// >= 1.
  std::map<std::string, Shape> input_shapes;
  /// What an open first dimension becomes when input_shapes does not say.
  std::int64_t default_batch = 1;
};

/// Reads an ONNX model, default operator set 7 or newer, any IR version, into a graph with static
/// shapes and calls infer_types on it. What changes on the way:
/// - initializers, Constant nodes and Identities of them are constants; float16, bfloat16 and
/// double
///   become f32, uint32 and uint64 become i64, int4 and uint4 become i8 and u8, packed or not (Cast
///   nodes name the type that is kept);
/// - an initializer that is listed as a graph input too is a constant, not an input;
/// - a symbolic dimension has one value everywhere: from input_shapes, else default_batch where it
///   comes first; any other open dimension is an error;
/// - unnamed nodes are called OPERATOR_N by their position in the file, repeated names are numbered;
/// - operator domains are dropped, except that an operator waveq does not know keeps its own in
///   the attribute waveq_domain;
/// - Softmax, LogSoftmax and Hardmax of operator sets before 13 get the attribute waveq_flatten = 1
///   (they work on the flattened axes [axis, rank)) and an explicit axis;
/// - nodes with subgraphs (If, Loop, Scan) and calls of model-local functions stay as unknown
/// operators;
///   what the graph cannot hold of them is marked by attributes waveq_lost_<name>.
/// \throws Error{io} when the file or its external data cannot be read; Error{parse} when the bytes
/// are no valid model; Error{unsupported} for operator sets below 7, strings, sparse and non-tensor
/// values; Error{shape|invalid_argument} for open dimensions and unfitting input_shapes; errors of
/// infer_types.
Graph read_onnx(const std::filesystem::path& path, const ReadOptions& options = {});

/// The same from memory. `name` stands for the file in messages; external data are looked for
/// below `base_dir`, and refused without one.
Graph read_onnx(std::span<const std::byte> bytes, const std::string& name,
                const std::optional<std::filesystem::path>& base_dir = {},
                const ReadOptions& options = {});

}  // namespace waveq
