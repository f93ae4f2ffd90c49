#include "waveq/integerize/enhancement.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <unsupported/Eigen/FFT>

#include "waveq/graph/npz.h"

namespace waveq {

namespace {

using Complex = std::complex<double>;

/// Spectra of real signals: bins 0 to half the length. One for each call: it keeps its plans, which
/// threads cannot share.
Eigen::FFT<double> half_spectrum() {
  Eigen::FFT<double> fft;
  fft.SetFlag(Eigen::FFT<double>::HalfSpectrum);
  return fft;
}

double inner(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

Stft::Stft(std::size_t window) {
  if (window < 2 || window % 2 != 0)
    throw Error(ErrorCode::invalid_argument, "stft", fmt::format("a window of {}", window),
                "its length is even, at least 2");
  const auto n = static_cast<double>(window);
  for (std::size_t i = 0; i < window; ++i) {
    const double angle = 2.0 * std::numbers::pi * static_cast<double>(i) / n;
    taps_.push_back(std::sqrt(0.5 - 0.5 * std::cos(angle)));
  }
}

std::size_t Stft::frames(std::size_t samples) const {
  const std::size_t window = taps_.size();
  return samples < window ? 0 : (samples - window) / (window / 2) + 1;
}

std::vector<Complex> Stft::transform(std::span<const double> audio) const {
  const std::size_t window = taps_.size();
  std::vector<double> x(window);
  std::vector<Complex> out, y;
  Eigen::FFT<double> fft = half_spectrum();
  for (std::size_t f = 0; f < frames(audio.size()); ++f) {
    for (std::size_t i = 0; i < window; ++i) x[i] = audio[f * (window / 2) + i] * taps_[i];
    fft.fwd(y, x);
    out.insert(out.end(), y.begin(), y.end());
  }
  return out;
}

std::vector<double> Stft::inverse(std::span<const Complex> spectrum, std::size_t samples) const {
  const std::size_t window = taps_.size();
  std::vector<double> audio(samples, 0.0), weight(samples, 0.0);
  std::vector<Complex> x(bins());
  std::vector<double> y;
  Eigen::FFT<double> fft = half_spectrum();
  for (std::size_t f = 0; f < frames(samples); ++f) {
    std::ranges::copy(spectrum.subspan(f * bins(), bins()), x.begin());
    // Of a real signal, both ends are real.
    x.front() = x.front().real();
    x.back() = x.back().real();
    fft.inv(y, x);
    for (std::size_t i = 0; i < window; ++i) {
      audio[f * (window / 2) + i] += y[i] * taps_[i];
      weight[f * (window / 2) + i] += taps_[i] * taps_[i];
    }
  }
  for (std::size_t i = 0; i < samples; ++i) audio[i] /= std::max(weight[i], 0.1);
  return audio;
}

double si_sdr(std::span<const double> estimate, std::span<const double> reference) {
  constexpr double kTiny = 1e-9;
  const double share = inner(estimate, reference) / (inner(reference, reference) + kTiny);
  double target = 0, rest = 0;
  for (std::size_t i = 0; i < estimate.size(); ++i) {
    const double along = share * reference[i];
    target += along * along;
    rest += (estimate[i] - along) * (estimate[i] - along);
  }
  return 10.0 * std::log10(target / (rest + kTiny) + kTiny);
}

namespace {

/// Audio [N,L] as it is stored.
class Clips {
 public:
  /// `scaled`: integers mean nothing without NAME_scale.
  Clips(const std::filesystem::path& npz, const std::string& name, bool scaled) {
    const NpzReader reader(npz);
    const std::string found = reader.find(name) ? name : name + "_int16";
    if (!reader.find(found))
      throw Error(ErrorCode::data, npz.string(), fmt::format("has no array '{}'", name),
                  fmt::format("si-sdr wants audio [N,L] as '{0}' or '{0}_int16'", name));
    samples_ = reader.read(found);
    const std::string where = fmt::format("{}: {}", npz.string(), found);
    const Shape& shape = samples_.shape();
    if (samples_.dtype() == DType::boolean || shape.size() < 2 || samples_.size() == 0)
      throw Error(ErrorCode::data, where,
                  fmt::format("is {}{}", to_string(samples_.dtype()), to_string(shape)),
                  "si-sdr wants audio [N,L]");
    length_ = static_cast<std::size_t>(samples_.size() / shape[0]);
    for (double v : to_double(samples_))
      if (!std::isfinite(v)) throw Error(ErrorCode::data, where, "holds a non-finite number");
    if (scaled && found != name) scale_ = to_double(reader.read(name + "_scale")).at(0);
  }
  std::uint64_t count() const { return static_cast<std::uint64_t>(samples_.shape()[0]); }
  std::size_t length() const { return length_; }
  const Shape& shape() const { return samples_.shape(); }
  std::vector<double> clip(std::uint64_t n) const {
    std::vector<double> out(length_);
    visit_number(samples_.dtype(), [&](auto t) {
      const auto all = samples_.as<decltype(t)>().subspan(n * length_, length_);
      std::ranges::transform(all, out.begin(),
                             [&](auto v) { return scale_ * static_cast<double>(v); });
    });
    return out;
  }

 private:
  template <class F>
  static void visit_number(DType dtype, F&& f) {
    if (dtype == DType::f32)
      f(float{});
    else
      visit_integer(dtype, f);
  }

  Tensor samples_;
  std::size_t length_ = 0;
  double scale_ = 1.0;
};

/// What a network of masks reads, made from noisy audio.
class SpectralFeatures : public SampleSource {
 public:
  SpectralFeatures(std::shared_ptr<const Clips> noisy, std::shared_ptr<const Stft> stft,
                   Shape shape, std::string name)
      : noisy_(std::move(noisy)), stft_(std::move(stft)), shape_(std::move(shape)), name_(name) {}

  std::optional<std::uint64_t> size() const override { return noisy_->count(); }
  bool has_labels() const override { return false; }
  std::string name() const override { return name_; }
  void rewind() override { position_ = 0; }

  bool next(Sample& sample) override {
    if (position_ == noisy_->count()) return false;
    const std::vector<Complex> spectrum = stft_->transform(noisy_->clip(position_));
    Tensor features(DType::f32, shape_);
    std::ranges::transform(spectrum, features.as<float>().begin(), [](Complex s) {
      return static_cast<float>((std::log(std::abs(s) + 1e-3) + 2.0) / 2.0);
    });
    sample = {};
    sample.index = position_++;
    sample.inputs.push_back(std::move(features));
    return true;
  }

 private:
  std::shared_ptr<const Clips> noisy_;
  std::shared_ptr<const Stft> stft_;
  Shape shape_;
  std::string name_;
  std::uint64_t position_ = 0;
};

class SpeechEnhancement : public Metric {
 public:
  SpeechEnhancement(const std::filesystem::path& npz, const Graph& graph)
      : file_(npz.string()), shape_(graph.value(graph.inputs().front()).type.shape) {
    // SI-SDR does not depend on the scale of the clean audio, the network on that of the noisy.
    noisy_ = std::make_shared<const Clips>(npz, graph.value(graph.inputs().front()).name, true);
    clean_ = std::make_shared<const Clips>(npz, "clean", false);
    const Shape &in = shape_, &out = graph.value(graph.outputs().front()).type.shape;
    if (noisy_->count() != clean_->count() || noisy_->length() != clean_->length())
      throw Error(ErrorCode::data, file_,
                  fmt::format("has noisy audio {} and clean audio {}", to_string(noisy_->shape()),
                              to_string(clean_->shape())),
                  "si-sdr wants both of one shape [N,L]");
    const auto length = static_cast<std::int64_t>(noisy_->length());
    if (element_count(in) == length && element_count(out) == length) return;
    if (in == out && in.size() == 3 && in[0] == 1 && in[2] > 1) {
      stft_ = std::make_shared<const Stft>(2 * static_cast<std::size_t>(in[2] - 1));
      if (stft_->frames(noisy_->length()) == static_cast<std::size_t>(in[1])) return;
    }
    throw Error(ErrorCode::data, file_,
                fmt::format("clips of {} samples do not fit a network {} -> {}", length,
                            to_string(in), to_string(out)),
                "si-sdr is for networks from audio to audio, or from spectra [1,T,F] to masks for "
                "T windows of 2(F-1) samples, half of them overlapping");
  }

  std::unique_ptr<SampleSource> inputs() const override {
    if (!stft_) return nullptr;
    return std::make_unique<SpectralFeatures>(noisy_, stft_, shape_, file_);
  }

  Score judge(std::uint64_t sample, const Tensor& real, const Tensor& integer) const override {
    const std::vector<double> noisy = noisy_->clip(sample), clean = clean_->clip(sample);
    const double before = si_sdr(noisy, clean);
    const auto gain = [&](const Tensor& output) {
      std::vector<double> y = to_double(output);
      if (stft_) {
        std::vector<Complex> spectrum = stft_->transform(noisy);
        for (std::size_t i = 0; i < spectrum.size(); ++i) spectrum[i] *= y[i];
        y = stft_->inverse(spectrum, noisy.size());
      }
      return si_sdr(y, clean) - before;
    };
    Score score;
    score.real = gain(real);
    score.integer = gain(integer);
    return score;
  }

 private:
  std::string file_;
  Shape shape_;  ///< of the network's input
  std::shared_ptr<const Clips> noisy_, clean_;
  std::shared_ptr<const Stft> stft_;
};

}  // namespace

std::unique_ptr<Metric> speech_enhancement(const std::filesystem::path& npz, const Graph& graph) {
  if (graph.inputs().size() != 1)
    throw Error(ErrorCode::data, "si-sdr",
                fmt::format("the network has {} inputs", graph.inputs().size()),
                "it is for networks with one, noisy speech");
  return std::make_unique<SpeechEnhancement>(npz, graph);
}

}  // namespace waveq
