#include <cstring>

#include "core/dtype.h"
#include "core/error.h"
#include "runtime/cuda_kernels/device/device.cuh"
#include "runtime/cuda_kernels/memory.h"

namespace pith::cuda {
namespace {

constexpr Status kNotWhileRecording = "not while a graph is recorded";

// Lies before the bytes that are given out, so that they still end at a wall.
struct Header {
  GuardedBytes* memory;
  uint64_t unused;
};

}  // namespace

Status allocate(uint64_t bytes, void** to) {
  if (recording != nullptr) return kNotWhileRecording;
  auto* const memory = new GuardedBytes(bytes + sizeof(Header));
  const Header header{memory, 0};
  std::memcpy(memory->data(), &header, sizeof(header));
  *to = memory->data() + sizeof(Header);
  return nullptr;
}
void release(void* p) {
  if (p == nullptr) return;
  Header header;
  std::memcpy(&header, static_cast<unsigned char*>(p) - sizeof(Header), sizeof(header));
  delete header.memory;
}
Status memory(uint64_t* free, uint64_t* total) {
  *free = *total = uint64_t{1} << 34;
  return nullptr;
}
Status chip(Chip* to) {
  *to = {4, int64_t{160} << 10};
  return nullptr;
}
Status make_stream(Stream* to) {
  *to = nullptr;
  return nullptr;
}
void end_stream(Stream) {}
Status upload(void* to, const void* from, uint64_t bytes, Stream) {
  if (recording != nullptr) return kNotWhileRecording;
  if (bytes > 0) std::memcpy(to, from, bytes);
  return nullptr;
}
Status download(void* to, const void* from, uint64_t bytes, Stream stream) {
  return upload(to, from, bytes, stream);
}
Status copy(void* to, const void* from, uint64_t bytes, Stream stream) {
  return upload(to, from, bytes, stream);
}
Status wait(Stream) { return recording == nullptr ? nullptr : kNotWhileRecording; }

Status begin_graph(Stream) {
  recording = new Recording;
  return nullptr;
}
Status end_graph(Stream, Graph* to) {
  *to = recording;
  recording = nullptr;
  return nullptr;
}
Status launch_graph(Graph graph, Stream) {
  for (const auto& run : *static_cast<Recording*>(graph)) run();
  return nullptr;
}
void release_graph(Graph graph) { delete static_cast<Recording*>(graph); }

bool has_cublas() { return true; }
Status cublas_gemm_f16(const CublasGemmF16& a, Stream) {
  if (recording != nullptr) return kNotWhileRecording;
  for (int64_t t = 0; t < a.x.m; ++t) {
    for (int64_t r = 0; r < a.n; ++r) {
      double sum = 0;
      for (int64_t i = 0; i < a.x.stride; ++i) {
        sum += static_cast<double>(f16_to_f32(a.w[r * a.x.stride + i])) *
               static_cast<double>(f16_to_f32(a.x.values[t * a.x.stride + i]));
      }
      a.y[t * a.n + r] = static_cast<float>(sum);
    }
  }
  return nullptr;
}

bool has_cublas_gemm_8(bool) { return true; }
Status cublas_gemm_8(const CublasGemm8& a, Stream) {
  if (recording != nullptr) return kNotWhileRecording;
  for (int64_t t = 0; t < a.m; ++t) {
    for (int64_t r = 0; r < a.n; ++r) {
      double sum = 0;  // exact for integers
      for (int64_t i = 0; i < a.k; ++i) {
        const auto of = [&](const void* codes, int64_t at) {
          return a.floats
                     ? static_cast<double>(f8e4m3_to_f32(static_cast<const uint8_t*>(codes)[at]))
                     : static_cast<double>(static_cast<const int8_t*>(codes)[at]);
        };
        sum += of(a.w, r * a.k + i) * of(a.x, t * a.k + i);
      }
      if (a.floats) {
        static_cast<float*>(a.sums)[t * a.n + r] = static_cast<float>(sum);
      } else {
        static_cast<int32_t*>(a.sums)[t * a.n + r] = static_cast<int32_t>(sum);
      }
    }
  }
  return nullptr;
}

// With 10 bits behind the leading one of each factor, the others cut off.
Status gemm_tf32(const Gemm<float>& g, Stream) {
  if (recording != nullptr) return kNotWhileRecording;
  const auto cut = [](float v) {
    uint32_t bits;
    std::memcpy(&bits, &v, sizeof bits);
    bits &= 0xffffe000u;
    std::memcpy(&v, &bits, sizeof bits);
    return static_cast<double>(v);
  };
  const auto at = [&](const Factor<float>& f, int64_t row, int64_t column) {
    return cut(f.transposed ? f.data[column * f.ld + row] : f.data[row * f.ld + column]);
  };
  for (int64_t i = 0; i < g.m; ++i) {
    for (int64_t j = 0; j < g.n; ++j) {
      double sum = 0;
      for (int64_t p = 0; p < g.k; ++p) sum += at(g.a, i, p) * at(g.b, p, j);
      float& to = g.c[i * g.ldc + j];
      to = g.alpha * static_cast<float>(sum) + (g.beta == 0 ? 0 : g.beta * to);
    }
  }
  return nullptr;
}

}  // namespace pith::cuda
