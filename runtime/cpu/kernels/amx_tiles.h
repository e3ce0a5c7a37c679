// The instructions of AMX that the kernels use: tile registers of 16 rows of up to 64 bytes. In
// assembly, because the compilers' own forms take register numbers as literal digits only. As text,
// included in the anonymous namespace of amx.cc; tests put a model of plain C++ in its
// place.

// Tiles 0 to 3 hold sums, [16, 16] int32; 4 and 5 inputs, [16, width] bytes; 6 and 7 codes,
// [width / 4, 16, 4].
inline void configure_tiles(int width) {
  struct alignas(64) {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
  } config;
  for (int i = 0; i < 8; ++i) {
    config.row_bytes[i] = static_cast<uint16_t>(i == 4 || i == 5 ? width : 64);
    config.rows[i] = static_cast<uint8_t>(i < 6 ? 16 : width / 4);
  }
  asm volatile("ldtilecfg %0" : : "m"(config));
}
inline void release_tiles() { asm volatile("tilerelease"); }
template <int tile>
inline void load_tile(const void* p, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(stride), "i"(tile) : "memory");
}
template <int tile>
inline void store_tile(void* p, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(p), "r"(stride), "i"(tile) : "memory");
}
// sums += inputs without a sign times codes with one
template <int sums, int inputs, int codes>
inline void multiply_tiles() {
  asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sums), "i"(inputs), "i"(codes));
}
