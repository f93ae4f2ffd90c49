#pragma once

#include <optional>
#include <string>

#include "waveq/integerize/bounds.h"

namespace waveq {

/// An upper bound of |num| / (eta*den + eps) over everything a division node can see, as an exact
/// fraction `numerator / denominator` (both >= 0, denominator >= 1).
struct QuotientBound {
  __int128 numerator = 0;    ///< >= 0
  __int128 denominator = 1;  ///< >= 1
  std::string argument;      ///< what the bound rests on, for the report
};

/// Bounds the quotient of IntegerDiv(num, den).
///
/// Plain: max|num| / (eta*min(den) + eps).
/// Relational, where the node is the quotient of linear attention,
///   num = Q.A, den = Q.E, A_j = rq_A(sum_n K_jn V_n), E_j = rq_E(sum_n K_jn), Q >= 0, K >= 0:
/// for a row with S = sum_n K_jn, |A_j| <= a(S) and E_j >= e(S), both non-decreasing in S. A
/// quotient of two non-negative linear forms in the Q_j takes its maximum at a corner of the box
/// [0, Qmax]^d, and a mediant never exceeds its largest term, so
///   |num|/(eta*den + eps) <= max_S  d*Qmax*a(S) / (eta*d*Qmax*e(S) + eps),
/// which is evaluated exactly at the last S of each step of e(S).
/// Where num = A.V and den = A.W with the same A >= 0 and a constant column W > 0, the quotient is
/// at most its largest term: |num|/(eta*den + eps) <= max|V| / (eta*min W).
/// \throws Error{overflow} when den can be negative or eta*den + eps can be 0.
QuotientBound bound_quotient(BoundsAnalysis& bounds, ValueId num, ValueId den, std::int64_t eta,
                             std::int64_t eps, const std::string& where);

}  // namespace waveq
