#include "lowrank/spectra.h"

#include <numeric>
#include <optional>

#include "core/error.h"
#include "lowrank/low_rank_term.h"
#include "runtime/compress/calibration.h"

namespace pith {
namespace {

RankCurve curve_of(const StageInputs& inputs, const Linear& linear) {
  RankCurve curve{.name = linear.name, .n = linear.n, .k = linear.k};
  const Matrix<float> w = weights_of(inputs.algebra(), linear);
  curve.squares = whitened_spectrum(inputs.algebra(), w, inputs.whitening());
  for (double& s : curve.squares) s *= s;
  curve.norm = std::accumulate(curve.squares.begin(), curve.squares.end(), 0.0);
  return curve;
}

}  // namespace

std::vector<RankCurve> measure_spectra(const SpectraRequest& request, Executor& executor,
                                       Progress& progress) {
  const ModelSource& source = request.source;
  const auto& spec = source.spec();
  CalibrationStates states(executor, spec, source.linear(linears_of(spec).front()), request.windows,
                           request.memory, request.scratch, progress.cancel());
  Calibration calibration(executor, states, nullptr, {});
  const InputOptions options{.gram = request.damping, .correct_inputs = 0};
  std::vector<RankCurve> curves;
  progress.begin("measuring singular values", spec.layers_size());
  for (int l = 0; l < spec.layers_size(); ++l) {
    progress.advance(l, fmt::format("layer {}", l));
    const Block block = load_block(source, l);
    calibration.begin(block, block);
    int sublayer = 0;
    for (const auto& stage : stages_of(spec, l)) {
      progress.check();
      while (stage.sublayer > sublayer) calibration.advance(block, block, sublayer++);
      std::optional<StageInputs> inputs;
      for (const auto& info : stage.linears) {
        if (!rank_by(info, request.ignore, {}, [] { return 1; })) continue;
        const Linear& linear = find_linear(block, info);
        if (const LinearForm form = form_of(linear); !form.plain()) {
          fail(ErrorKind::kUnsupported, "{}: is {}, and one weight alone can be factorized",
               info.name, to_string(form));
        }
        if (!inputs) inputs.emplace(stage, &calibration, linear.input, options);
        curves.push_back(curve_of(*inputs, linear));
      }
    }
    while (l + 1 < spec.layers_size() && sublayer < spec.layers(l).sublayers_size())
      calibration.advance(block, block, sublayer++);
  }
  progress.end();
  return curves;
}

}  // namespace pith
