#pragma once

#include <complex>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "waveq/integerize/metric.h"

namespace waveq {

/// Short-time Fourier transform with a square-root Hann window (periodic) of `window` samples,
/// even, and hops of half of it; no padding. Applied again behind the inverse, the squared windows
/// sum to one. In double, in an order of operations that depends on the sizes alone.
class Stft {
 public:
  /// \throws Error{invalid_argument} for a window below 2 or of odd length.
  explicit Stft(std::size_t window);

  std::size_t bins() const { return taps_.size() / 2 + 1; }
  std::size_t frames(std::size_t samples) const;  ///< complete windows
  /// [frames, bins], row-major.
  std::vector<std::complex<double>> transform(std::span<const double> audio) const;
  /// Windows added where they overlap, divided by the sum of the squared windows (at least 0.1).
  std::vector<double> inverse(std::span<const std::complex<double>> spectrum,
                              std::size_t samples) const;

 private:
  std::vector<double> taps_;
};

/// Scale-invariant signal-to-distortion ratio in dB: the share of `estimate` along `reference`
/// against the rest, each with 1e-9 added. Source: Le Roux et al. 2019 (arXiv:1811.02508).
double si_sdr(std::span<const double> estimate, std::span<const double> reference);

/// Speech enhancement judged by the mean of SI-SDR(enhanced) - SI-SDR(noisy). The file holds noisy
/// audio [N,L] under the name of the network's input and `clean` [N,L], each maybe as NAME_int16.
///   A network [1,...] of L samples to L samples enhances the audio itself.
///   A network [1,T,F] to [1,T,F] makes a mask for the spectrum of T windows of 2(F-1) samples from
///   (ln(|spectrum| + 1e-3) + 2)/2; enhanced audio is the inverse transform of both's product.
/// \throws Error{data} for another network or a file that does not fit.
std::unique_ptr<Metric> speech_enhancement(const std::filesystem::path& npz, const Graph& graph);

}  // namespace waveq
