#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>

#include "waveq/graph/graph.h"

namespace waveq::rules {

/// A polynomial in two values x and t: (power of x, power of t) -> coefficient. Two spellings of
/// the same arithmetic have the same polynomial, whatever the order of operands and the place of
/// the factors.
using Polynomial = std::map<std::pair<int, int>, double>;

/// `value` as a polynomial in x and t (which may be invalid), as far as it is made of Add, Sub,
/// Mul, Neg, Div by and Pow with one-element constants. Nothing when it is not, or is of a degree
/// above 4.
std::optional<Polynomial> expand(const Graph& graph, ValueId value, ValueId x, ValueId t);

/// Equal coefficients up to 1e-3 of their size: constants may have passed through half floats
/// (0.70703 for 1/sqrt(2), 11 bits), two of them in a product.
bool nearly_equal(const Polynomial& a, const Polynomial& b);

/// "0.5*x + 0.5*x*t"
std::string to_string(const Polynomial& p);

/// Values that `value` is arithmetic of (itself included), nearest first, through the operators
/// above. At most `limit`.
std::vector<ValueId> arithmetic_leaves(const Graph& graph, ValueId value, std::size_t limit);

}  // namespace waveq::rules
