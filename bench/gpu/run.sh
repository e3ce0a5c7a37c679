#!/usr/bin/env bash
# Proves and measures the CUDA backend on this machine's GPU. Needs a driver and what the cuda preset built:
#   cmake --preset cuda -DPITH_STATIC=ON && cmake --build build/cuda
#   bench/gpu/run.sh build/cuda OUT
# OUT/tests.txt        the device's tests on the GPU
# OUT/tests-overlap.txt  the same with PITH_CUDA_OVERLAP=1
# OUT/sanitizer.txt    the same under compute-sanitizer, where it is installed (memcheck racecheck initcheck synccheck)
# OUT/kernels.json     gpu_bench
# OUT/plans.json       products by every plan (runtime/cuda_kernels/gemm/gemm_plan.h)
# OUT/compress.json    gpu_compress_bench
# OUT/models.json      decoding and prefill of whole models of random weights
set -euo pipefail
build=${1:?"usage: bench/gpu/run.sh BUILD_DIR OUT [--quick]"} out=${2:?"where to?"} quick=${3:-}
mkdir -p "$out"

"$build/pith" devices | tee "$out/devices.txt"
status=0
"$build/bin/gpu_test" >"$out/tests.txt" 2>&1 || status=$?
if [[ $status == 77 ]]; then
  cat "$out/tests.txt"
  exit 77
fi
tail -n 12 "$out/tests.txt"
# Once more with kernels that begin while the one before them ends.
PITH_CUDA_OVERLAP=1 "$build/bin/gpu_test" --gtest_brief=1 >"$out/tests-overlap.txt" 2>&1 || status=$?
tail -n 12 "$out/tests-overlap.txt"

if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck initcheck synccheck; do
    echo "== $tool" >>"$out/sanitizer.txt"
    timeout 100 compute-sanitizer --tool "$tool" "$build/bin/gpu_test" --gtest_brief=1 \
      --gtest_filter='GpuAttention.holds*:GpuLatentAttention.*heads:GpuKernels.*:QuantGemm.holds*:GpuAlgebra.*:GpuGptq.takes*' >>"$out/sanitizer.txt" 2>&1 || true
  done
  grep -E '^==|ERROR SUMMARY' "$out/sanitizer.txt"
fi

"$build/bin/gpu_bench" ${quick:+"$quick"} | tee "$out/kernels.json"
"$build/bin/gpu_bench" --plans >"$out/plans.json"
"$build/bin/gpu_compress_bench" ${quick:+"$quick"} | tee "$out/compress.json"

: >"$out/models.json"
for model in "llama-1b w4" "llama-8b w4" "llama-8b w8" "llama-8b fp8" "deepseek-v2-lite w4"; do
  read -r shape type <<<"$model"
  for overlap in 0 1; do
    echo "{\"overlap\": $overlap}" >>"$out/models.json"
    PITH_CUDA_OVERLAP=$overlap "$build/pith" bench --synthetic "$shape" --type "$type" --device cuda -p 512 -n 64 \
      --repetitions 3 --json - -q >>"$out/models.json" || echo "$model failed"
  done
done
exit "$status"
