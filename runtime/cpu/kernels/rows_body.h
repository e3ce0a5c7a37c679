// The elements of a row of codes, 16 at a time: decoding and dot products. Text of body.h.

template <class T, class Self>
struct Plain {
  static V16 load(const void* row, int64_t i) { return Self::read(static_cast<const T*>(row) + i); }
  // Never touches what follows the row.
  static V16 load_last(const void* row, int64_t i, int64_t count) {
    T last[16] = {};
    for (int64_t j = 0; j < count; ++j) last[j] = static_cast<const T*>(row)[i + j];
    return Self::read(last);
  }
};
struct F32 : Plain<float, F32> {
  static V16 read(const float* p) { return load16(p); }
};
struct F16 : Plain<uint16_t, F16> {
  static V16 read(const uint16_t* p) { return load_f16(p); }
};
struct BF16 : Plain<uint16_t, BF16> {
  static V16 read(const uint16_t* p) { return load_bf16(p); }
};
struct F8E4M3 : Plain<uint8_t, F8E4M3> {
  static V16 read(const uint8_t* p) { return load_f8e4m3(p); }
};
struct F8E5M2 : Plain<uint8_t, F8E5M2> {
  static V16 read(const uint8_t* p) { return load_f8e5m2(p); }
};
struct I8 : Plain<int8_t, I8> {
  static V16 read(const int8_t* p) { return load_i8(p); }
};
template <int bits>
struct Packed {
  static V16 load(const void* row, int64_t i) {
    return to_float(unpack_codes<bits>(static_cast<const uint8_t*>(row) + i / 8 * bits));
  }
  static V16 load_last(const void* row, int64_t i, int64_t) { return load(row, i); }
};
inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

template <class Codes>
void decode_row(const CodeRow& row, int64_t k, float* out) {
  for (int64_t begin = 0, g = 0; begin < k; begin += row.group, ++g) {
    const int64_t end = min64(k, begin + row.group);
    const V16 s = set1(row.scales ? row.scales[g] : 1.0f);
    const V16 z = set1(row.zeros ? row.zeros[g] : 0.0f);
    int64_t i = begin;
    for (; i + 16 <= end; i += 16) store(out + i, mul(s, sub(Codes::load(row.codes, i), z)));
    if (i < end)
      store_first(out + i, mul(s, sub(Codes::load_last(row.codes, i, end - i), z)), end - i);
  }
}

template <class Codes>
void decode_columns(const CodeColumns& rows, int64_t k, float* to, int64_t ld) {
  for (int64_t begin = 0, g = 0; begin < k; begin += rows.group, ++g) {
    const V16 s = rows.scales ? load(rows.scales + 16 * g) : set1(1.0f);
    const V16 z = rows.zeros ? load(rows.zeros + 16 * g) : set1(0.0f);
    for (int64_t i = begin; i < min64(k, begin + rows.group); ++i)
      store(to + i * ld, mul(s, sub(Codes::load(rows.codes, 16 * i), z)));
  }
}

// sum over groups of s * (sum of code * x)
template <class Codes, int R>
void dot_rows(const CodeRow* rows, int64_t k, const float* x, float* out) {
  V16 total[R];
  for (int r = 0; r < R; ++r) total[r] = set1(0.0f);
  const int64_t group = rows[0].group;
  for (int64_t begin = 0, g = 0; begin < k; begin += group, ++g) {
    const int64_t end = min64(k, begin + group);
    V16 part[R];
    for (int r = 0; r < R; ++r) part[r] = set1(0.0f);
    int64_t i = begin;
    for (; i + 16 <= end; i += 16) {
      const V16 v = load(x + i);
      for (int r = 0; r < R; ++r) part[r] = mul_add(Codes::load(rows[r].codes, i), v, part[r]);
    }
    if (i < end) {
      const V16 v = load(x + i);
      for (int r = 0; r < R; ++r)
        part[r] = mul_add(Codes::load_last(rows[r].codes, i, end - i), v, part[r]);
    }
    for (int r = 0; r < R; ++r) {
      total[r] = rows[r].scales ? mul_add(set1(rows[r].scales[g]), part[r], total[r])
                                : add(part[r], total[r]);
    }
  }
  for (int r = 0; r < R; ++r) out[r] = sum(total[r]);
}

// f<M>() for a number of rows from 1 to 4.
template <class F>
inline void with_rows(int64_t rows, F f) {
  switch (rows) {
    case 1:
      return f.template operator()<1>();
    case 2:
      return f.template operator()<2>();
    case 3:
      return f.template operator()<3>();
    default:
      return f.template operator()<4>();
  }
}

template <class Codes>
void dot(const CodeRow* rows, int count, int64_t k, const float* x, float* out) {
  with_rows(count, [&]<int R>() { dot_rows<Codes, R>(rows, k, x, out); });
}
