// Products by cuBLAS, which is opened when it is first asked for: it is larger than all else
// together, and what it does the kernels can do as well, slower for many tokens.
#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <array>
#include <map>

#include "runtime/cuda_kernels/memory.h"

namespace pith::cuda {
namespace {

// cublas_v2.h has overloads of it.
using GemmEx = cublasStatus_t (*)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int,
                                  int, const void*, const void*, cudaDataType, int, const void*,
                                  cudaDataType, int, const void*, void*, cudaDataType, int,
                                  cublasComputeType_t, cublasGemmAlgo_t);

struct Cublas {
  cublasHandle_t handle = nullptr;
  decltype(&cublasSetStream_v2) set_stream = nullptr;
  GemmEx gemm = nullptr;
};

// Functions of a library that may not be there.
class Library {
 public:
  explicit Library(const char* name) : library_(::dlopen(name, RTLD_NOW | RTLD_LOCAL)) {}

  template <class Function>
  void find(const char* name, Function** to) {
    *to = library_ == nullptr ? nullptr : reinterpret_cast<Function*>(::dlsym(library_, name));
    complete_ &= *to != nullptr;
  }
  bool complete() const { return complete_; }  // all of them were found

 private:
  void* library_;
  bool complete_ = true;
};

bool good(cublasStatus_t s) { return s == CUBLAS_STATUS_SUCCESS; }

// The handle is null where something is missing.
Cublas open_cublas() {
  Cublas to;
  Library library("libcublas.so.13");
  decltype(&cublasCreate_v2) create;
  library.find("cublasCreate_v2", &create);
  library.find("cublasSetStream_v2", &to.set_stream);
  library.find("cublasGemmEx", &to.gemm);
  if (!library.complete() || !good(create(&to.handle))) to.handle = nullptr;
  return to;
}
Cublas& cublas() {
  static Cublas opened = open_cublas();
  return opened;
}

// 8-bit floats are for cublasLt alone.
struct CublasLt {
  static constexpr size_t kWorkspace = size_t{32} << 20;

  cublasLtHandle_t handle = nullptr;
  void* workspace = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
  cublasLtMatmulDesc_t product = nullptr;  // a^T b
  cublasLtMatmulPreference_t preference = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) create_layout = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) destroy_layout = nullptr;
  std::map<std::array<int64_t, 3>, cublasLtMatmulAlgo_t> plans = {};  // by m, n, k
};

// The same.
CublasLt open_cublas_lt() {
  CublasLt to;
  Library library("libcublasLt.so.13");
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtMatmulDescCreate) create_product;
  decltype(&cublasLtMatmulDescSetAttribute) set;
  decltype(&cublasLtMatmulPreferenceCreate) create_preference;
  decltype(&cublasLtMatmulPreferenceSetAttribute) prefer;
  library.find("cublasLtCreate", &create);
  library.find("cublasLtMatmulDescCreate", &create_product);
  library.find("cublasLtMatmulDescSetAttribute", &set);
  library.find("cublasLtMatmulPreferenceCreate", &create_preference);
  library.find("cublasLtMatmulPreferenceSetAttribute", &prefer);
  library.find("cublasLtMatmul", &to.matmul);
  library.find("cublasLtMatmulAlgoGetHeuristic", &to.heuristic);
  library.find("cublasLtMatrixLayoutCreate", &to.create_layout);
  library.find("cublasLtMatrixLayoutDestroy", &to.destroy_layout);
  const cublasOperation_t transposed = CUBLAS_OP_T;
  if (!library.complete() || !good(create_product(&to.product, CUBLAS_COMPUTE_32F, CUDA_R_32F)) ||
      !good(set(to.product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed)) ||
      !good(create_preference(&to.preference)) ||
      !good(prefer(to.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &CublasLt::kWorkspace,
                   sizeof CublasLt::kWorkspace)) ||
      cudaMalloc(&to.workspace, CublasLt::kWorkspace) != cudaSuccess || !good(create(&to.handle))) {
    to.handle = nullptr;
  }
  return to;
}
CublasLt& cublas_lt() {
  static CublasLt opened = open_cublas_lt();
  return opened;
}

// The layouts of y^T[n, m] = (w [k, n])^T x [k, m], column-major.
class Layouts {
 public:
  Layouts(const CublasLt& c, int64_t m, int64_t n, int64_t k) : c_(c) {
    const auto make = [&](cublasLtMatrixLayout_t* to, cudaDataType type, int64_t rows,
                          int64_t columns) {
      good_ &= c.create_layout(to, type, static_cast<uint64_t>(rows),
                               static_cast<uint64_t>(columns), rows) == CUBLAS_STATUS_SUCCESS;
    };
    make(&w, CUDA_R_8F_E4M3, k, n);
    make(&x, CUDA_R_8F_E4M3, k, m);
    make(&y, CUDA_R_32F, n, m);
  }
  ~Layouts() {
    for (const auto layout : {w, x, y})
      if (layout != nullptr) c_.destroy_layout(layout);
  }
  Layouts(const Layouts&) = delete;

  // What cublasLt would do; null: it cannot. Its answer says whether a device can.
  const cublasLtMatmulAlgo_t* plan(CublasLt& c, int64_t m, int64_t n, int64_t k) const {
    const auto known = c.plans.find({m, n, k});
    if (known != c.plans.end()) return &known->second;
    cublasLtMatmulHeuristicResult_t found{};
    int count = 0;
    if (!good_ ||
        c.heuristic(c.handle, c.product, w, x, y, y, c.preference, 1, &found, &count) !=
            CUBLAS_STATUS_SUCCESS ||
        count == 0)
      return nullptr;
    return &(c.plans[{m, n, k}] = found.algo);
  }

  cublasLtMatrixLayout_t w = nullptr, x = nullptr, y = nullptr;

 private:
  const CublasLt& c_;
  bool good_ = true;
};

}  // namespace

bool has_cublas_gemm_8(bool floats) {
  if (!floats) return has_cublas();
  static const bool has = [] {
    CublasLt& c = cublas_lt();
    return c.handle != nullptr && Layouts(c, 512, 4096, 4096).plan(c, 512, 4096, 4096) != nullptr;
  }();
  return has;
}

Status cublas_gemm_8(const CublasGemm8& a, Stream stream) {
  const auto n = static_cast<int>(a.n), m = static_cast<int>(a.m), k = static_cast<int>(a.k);
  if (!a.floats) {
    Cublas& c = cublas();
    const int32_t one = 1, zero = 0;
    if (c.set_stream(c.handle, static_cast<cudaStream_t>(stream)) != CUBLAS_STATUS_SUCCESS)
      return "cuBLAS takes no stream";
    const cublasStatus_t status =
        c.gemm(c.handle, CUBLAS_OP_T, CUBLAS_OP_N, n, m, k, &one, a.w, CUDA_R_8I, k, a.x, CUDA_R_8I,
               k, &zero, a.sums, CUDA_R_32I, n, CUBLAS_COMPUTE_32I, CUBLAS_GEMM_DEFAULT);
    return status == CUBLAS_STATUS_SUCCESS ? nullptr : "cuBLAS cannot multiply these bytes";
  }
  CublasLt& c = cublas_lt();
  const Layouts layouts(c, a.m, a.n, a.k);
  const cublasLtMatmulAlgo_t* const plan = layouts.plan(c, a.m, a.n, a.k);
  if (plan == nullptr) return "cublasLt has no product of these 8-bit floats";
  const float one = 1, zero = 0;
  const cublasStatus_t status = c.matmul(
      c.handle, c.product, &one, a.w, layouts.w, a.x, layouts.x, &zero, a.sums, layouts.y, a.sums,
      layouts.y, plan, c.workspace, CublasLt::kWorkspace, static_cast<cudaStream_t>(stream));
  return status == CUBLAS_STATUS_SUCCESS ? nullptr : "cublasLt cannot multiply these 8-bit floats";
}

bool has_cublas() { return cublas().handle != nullptr; }

// Column-major, as cuBLAS has it: y^T [n, m] = w [k, n]^T x^T [k, m].
Status cublas_gemm_f16(const CublasGemmF16& a, Stream stream) {
  Cublas& c = cublas();
  const float one = 1, zero = 0;
  const auto n = static_cast<int>(a.n), m = static_cast<int>(a.x.m),
             k = static_cast<int>(a.x.stride);
  if (c.set_stream(c.handle, static_cast<cudaStream_t>(stream)) != CUBLAS_STATUS_SUCCESS)
    return "cuBLAS takes no stream";
  const cublasStatus_t status =
      c.gemm(c.handle, CUBLAS_OP_T, CUBLAS_OP_N, n, m, k, &one, a.w, CUDA_R_16F, k, a.x.values,
             CUDA_R_16F, k, &zero, a.y, CUDA_R_32F, n, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
  return status == CUBLAS_STATUS_SUCCESS ? nullptr : "cuBLAS cannot multiply these";
}

// The transpose of all, as cuBLAS has rows where we have columns: c^T = b^T a^T.
Status gemm_tf32(const Gemm<float>& g, Stream stream) {
  Cublas& c = cublas();
  const auto op = [](const Factor<float>& f) { return f.transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
  if (c.set_stream(c.handle, static_cast<cudaStream_t>(stream)) != CUBLAS_STATUS_SUCCESS)
    return "cuBLAS takes no stream";
  const cublasStatus_t status =
      c.gemm(c.handle, op(g.b), op(g.a), static_cast<int>(g.n), static_cast<int>(g.m),
             static_cast<int>(g.k), &g.alpha, g.b.data, CUDA_R_32F, static_cast<int>(g.b.ld),
             g.a.data, CUDA_R_32F, static_cast<int>(g.a.ld), &g.beta, g.c, CUDA_R_32F,
             static_cast<int>(g.ldc), CUBLAS_COMPUTE_32F_FAST_TF32, CUBLAS_GEMM_DEFAULT);
  return status == CUBLAS_STATUS_SUCCESS ? nullptr : "cuBLAS cannot multiply these";
}

}  // namespace pith::cuda
