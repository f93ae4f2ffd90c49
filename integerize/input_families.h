#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "waveq/integerize/bounds.h"

namespace waveq {

/// Inputs of an integer network that reach different corners of it, and changes to them. Draws are
/// the same on every host: integers and exact doubles from std::mt19937_64.
class InputFamilies {
 public:
  InputFamilies(const Graph& graph, std::uint64_t seed);

  /// A sample of the family number `index` (mod their number), in graph order of the inputs.
  std::vector<Tensor> draw(std::size_t index);
  /// A copy with one stretch of one input redrawn, scaled, negated, shifted or set to a constant.
  std::vector<Tensor> changed(const std::vector<Tensor>& sample);

 private:
  struct Input {
    TensorType type;
    Interval range;
    double reach() const;  ///< the larger |end|
  };
  using Values = std::vector<double>;

  double uniform();                                ///< in [0, 1)
  double normal();                                 ///< variance 1, |x| <= 6
  std::size_t below(std::size_t n);                ///< 0..n-1
  double power_of_two(double least, double most);  ///< log-uniform
  Values family(std::size_t index, const Input& input, std::size_t count);
  Values periodic(const Input& input, std::size_t count, bool ramps);
  Tensor stored(const Input& input, const Values& values) const;

  std::vector<Input> inputs_;
  std::mt19937_64 engine_;
};

}  // namespace waveq
