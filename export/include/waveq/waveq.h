#pragma once

/// \file
/// The whole public interface of waveq in one include. A float ONNX network becomes an integer one
/// like this:
///
///     waveq::QuantizeJob job;
///     job.model = "model.onnx";
///     job.calibration_data = "calib.npz";  // arrays named as the inputs, [samples, ...]
///     job.target = waveq::find_target(job.recipe.target).abilities();
///     const waveq::QuantizeResult result = waveq::quantize(job);
///     waveq::write_folder(result, job, "out");
///
/// Everything that can go wrong is a waveq::Error. The functions may be called from several threads
/// at once on different objects; messages go to spdlog's default logger.

// Tensors, graphs, ONNX and npz files, evaluation, integer arithmetic.
#include "waveq/graph/error.h"
#include "waveq/graph/executor.h"
#include "waveq/graph/graph.h"
#include "waveq/graph/integer_arithmetic.h"
#include "waveq/graph/integer_import.h"
#include "waveq/graph/npz.h"
#include "waveq/graph/onnx_reader.h"
#include "waveq/graph/onnx_writer.h"
#include "waveq/graph/op.h"
#include "waveq/graph/quant.h"
#include "waveq/graph/tensor.h"
#include "waveq/graph/version.h"
// Ranges to scales, weights to integers, scales to multipliers and shifts.
#include "waveq/quantizers/quantizer.h"
#include "waveq/quantizers/requant.h"
#include "waveq/quantizers/weights.h"
// Float-to-float rewriting.
#include "waveq/rewrites/driver.h"
#include "waveq/rewrites/rules.h"
// Samples, observers, the calibration table.
#include "waveq/calibration/calibrate.h"
#include "waveq/calibration/calibration_table.h"
#include "waveq/calibration/dataset.h"
#include "waveq/calibration/observer.h"
// The integer network, its proof, the pipeline.
#include "waveq/integerize/evaluate.h"
#include "waveq/integerize/integerize.h"
#include "waveq/integerize/pipeline.h"
#include "waveq/integerize/proof.h"
#include "waveq/integerize/recipe.h"
// Targets, the output folder, verification.
#include "waveq/export/folder.h"
#include "waveq/export/lint.h"
#include "waveq/export/target.h"
#include "waveq/export/vectors.h"
#include "waveq/export/verify.h"
