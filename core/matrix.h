// A view of a dense matrix, or of a part of one, or of its transpose. It does not say whose memory
// that is: functions of core/ take the host's, an Algebra (runtime/algebra/algebra.h) its own.
#pragma once

#include <cstdint>
#include <type_traits>

namespace pith {

template <class T>
struct MatrixRef {
  T* data = nullptr;
  int64_t rows = 0, columns = 0;
  int64_t ld = 0;           // elements from a row (of a transpose: from a column) to the next
  bool transposed = false;  // element (i, j) is data[j * ld + i]

  MatrixRef() = default;
  MatrixRef(T* at, int64_t m, int64_t n) : MatrixRef(at, m, n, n) {}
  MatrixRef(T* at, int64_t m, int64_t n, int64_t stride, bool t = false)
      : data(at), rows(m), columns(n), ld(stride), transposed(t) {}

  T& operator()(int64_t i, int64_t j) const {
    return transposed ? data[j * ld + i] : data[i * ld + j];
  }
  T* row(int64_t i) const { return data + i * ld; }  // of what is not transposed
  bool empty() const { return rows == 0 || columns == 0; }
  // Its elements lie row after row without gaps.
  bool contiguous() const { return !transposed && (ld == columns || rows <= 1); }

  MatrixRef t() const { return {data, columns, rows, ld, !transposed}; }
  MatrixRef block(int64_t row, int64_t column, int64_t m, int64_t n) const {
    return {data + (transposed ? column * ld + row : row * ld + column), m, n, ld, transposed};
  }
  MatrixRef row_block(int64_t row, int64_t m) const { return block(row, 0, m, columns); }

  operator MatrixRef<const T>() const requires(!std::is_const_v<T>) {
    return {data, rows, columns, ld, transposed};
  }
};

}  // namespace pith
