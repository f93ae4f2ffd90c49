#include "waveq/graph/op.h"

#include <fmt/format.h>

namespace waveq {

namespace {
std::string place(const Node& node) { return fmt::format("{} '{}'", node.op, node.name); }
}  // namespace

const TensorType& InferContext::input(std::size_t i) const {
  if (!has(i)) fail(fmt::format("input {} is missing or of unknown type", i));
  return inputs[i];
}

void InferContext::fail(std::string what, std::string hint) const {
  throw Error(ErrorCode::shape, place(node), std::move(what), std::move(hint));
}

const Tensor& EvalContext::input(std::size_t i) const {
  WAVEQ_CHECK(has(i));
  return *inputs[i];
}

void EvalContext::fail(ErrorCode code, std::string what, std::string hint) const {
  throw Error(code, place(node), std::move(what), std::move(hint));
}

}  // namespace waveq
