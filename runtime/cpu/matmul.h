// y[m, n] (+)= x[m, k] w[n, k]^T for a weight in any encoding.
//
// m < kPanelRows: each row of w is decoded on the fly in registers and multiplied with all of x
// (bound: bytes of w from memory). m >= kPanelRows: 32 rows at a time are decoded into a panel [k,
// 32] and multiplied by the matrix kernel (bound: f32 arithmetic). An encoding without a kernel is
// decoded by its reference and multiplied as f32; MatmulScratch::fallbacks says so.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "core/buffer.h"
#include "formats/encodings/encoding.h"
#include "runtime/cpu/int_matmul.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/rounded_inputs.h"

namespace pith {

inline constexpr int64_t kPanelRows = 8;

struct MatmulScratch {
  Buffer<float> x;                  // x with rows padded to a multiple of 16
  std::set<std::string> fallbacks;  // encodings met so far that have no kernel
};

void matmul(const CpuKernels& kernels, const Weight& w, const float* x, int64_t m, float* y,
            bool add, MatmulScratch& scratch);

// The same of rounded inputs. int8 inputs times a weight of integers are multiplied in integers
// (int_matmul.h); fp8 inputs, and other weights, by conversion: the f32 numbers that the rounded
// inputs stand for, as above.
void matmul(const CpuKernels& kernels, const Weight& w, RoundedInputs& x, float* y, bool add,
            MatmulScratch& scratch);

// The format of dense and fp8 weights, whose rows have kernels. None: a kernel for tiles (integers,
// NF4 and MXFP4 in groups), or no kernel at all.
std::optional<NumberFormat> row_format(const Encoding& e);

// Rows that a thread takes at a time, a multiple of `unit`: so many that memory is read in long
// runs (2^18 weights), but few enough that all threads get some and none waits long for one that
// sleeps.
int64_t row_grain(int64_t n, int64_t k, int64_t unit);

}  // namespace pith
