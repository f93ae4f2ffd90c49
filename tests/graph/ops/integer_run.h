#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "waveq/graph/executor.h"

namespace waveq::test {

using Wide = __int128;

/// Attributes from {name, value} pairs.
inline Attrs attrs_of(std::vector<std::pair<std::string, Attr>> pairs) {
  Attrs attrs;
  for (auto& [name, value] : pairs) attrs.set(std::move(name), std::move(value));
  return attrs;
}

/// First output of a single node on the given inputs.
inline Tensor run_node(std::string op, const std::vector<Tensor>& inputs, Attrs attrs,
                       Overflow overflow = Overflow::error) {
  Node node;
  node.op = std::move(op);
  node.name = "the_node";
  node.attrs = std::move(attrs);
  node.outputs.resize(1, ValueId{0});
  node.inputs.resize(inputs.size(), ValueId{0});
  std::vector<const Tensor*> pointers;
  for (const Tensor& t : inputs) pointers.push_back(&t);
  return std::move(evaluate_node(Graph{}, node, pointers, overflow).front());
}

/// Code and text of the Error that f throws; "nothing" where it throws none.
template <class F>
std::pair<std::string, std::string> error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return {std::string(to_string(e.code())), e.what()};
  }
  return {"nothing", ""};
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// Uniform integers in lo..hi from a fixed algorithm.
class Draw {
 public:
  explicit Draw(std::uint64_t seed) : engine_(seed) {}
  std::int64_t operator()(std::int64_t lo, std::int64_t hi) {
    return lo + static_cast<std::int64_t>(engine_() % (static_cast<std::uint64_t>(hi - lo) + 1));
  }

 private:
  std::mt19937_64 engine_;
};

/// Floor of a / b for b > 0, from division alone.
inline Wide floor_of(Wide a, Wide b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

/// a reduced to `bits` bits, two's complement.
inline std::int64_t low_bits(Wide a, int bits) {
  const Wide modulus = Wide{1} << bits;
  Wide r = a - floor_of(a, modulus) * modulus;
  if (r >= modulus / 2) r -= modulus;
  return static_cast<std::int64_t>(r);
}

}  // namespace waveq::test
