// A model of the instructions in runtime/cpu/kernels/amx_tiles.h, after Intel's architecture manual
// (LDTILECFG, TILELOADD, TILESTORED, TDPBUSD): configuring clears all tiles, loading clears what
// lies beyond a row's bytes, and using tiles that are not configured, or whose shapes do not fit,
// is a crash.

struct ModelTile {
  int rows = 0, row_bytes = 0;
  uint8_t bytes[16][64] = {};
};
inline ModelTile* model_tiles() {
  thread_local ModelTile tiles[8];
  return tiles;
}
inline void crash_unless(bool holds) {
  if (!holds) __builtin_trap();
}

inline void configure_tiles(int width) {
  crash_unless(width > 0 && width <= 64 && width % 4 == 0);
  for (int i = 0; i < 8; ++i) {
    model_tiles()[i] = ModelTile{};
    model_tiles()[i].rows = i < 6 ? 16 : width / 4;
    model_tiles()[i].row_bytes = i == 4 || i == 5 ? width : 64;
  }
}
inline void release_tiles() {
  for (int i = 0; i < 8; ++i) model_tiles()[i] = ModelTile{};
}
template <int tile>
inline void load_tile(const void* p, int64_t stride) {
  ModelTile& t = model_tiles()[tile];
  crash_unless(t.rows > 0);
  __builtin_memset(t.bytes, 0, sizeof(t.bytes));
  for (int r = 0; r < t.rows; ++r)
    __builtin_memcpy(t.bytes[r], static_cast<const uint8_t*>(p) + r * stride,
                     static_cast<size_t>(t.row_bytes));
}
template <int tile>
inline void store_tile(void* p, int64_t stride) {
  const ModelTile& t = model_tiles()[tile];
  crash_unless(t.rows > 0);
  for (int r = 0; r < t.rows; ++r)
    __builtin_memcpy(static_cast<uint8_t*>(p) + r * stride, t.bytes[r],
                     static_cast<size_t>(t.row_bytes));
}
template <int sums, int inputs, int codes>
inline void multiply_tiles() {
  ModelTile& c = model_tiles()[sums];
  const ModelTile &a = model_tiles()[inputs], &b = model_tiles()[codes];
  crash_unless(c.rows > 0 && c.rows == a.rows && a.row_bytes == 4 * b.rows &&
               c.row_bytes == b.row_bytes);
  for (int r = 0; r < c.rows; ++r) {
    uint32_t row[16];
    __builtin_memcpy(row, c.bytes[r], sizeof(row));
    for (int i = 0; i < b.rows; ++i) {
      for (int n = 0; n < c.row_bytes; ++n)
        row[n / 4] +=
            static_cast<uint32_t>(a.bytes[r][4 * i + n % 4] * static_cast<int8_t>(b.bytes[i][n]));
    }
    __builtin_memcpy(c.bytes[r], row, sizeof(row));
  }
}
