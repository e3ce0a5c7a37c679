// Byte shuffles and shifts that bring code i of a packed unit into 32-bit lane i: bytes (i*bits)/8
// and the next, then a shift right by (i*bits) % 8. Included inside the anonymous namespaces of the
// kernel files. Indices count within 16 bytes, which every 128-bit lane holds a copy of.
template <int bits>
struct UnpackTable {
  alignas(64) uint8_t bytes[64];
  alignas(64) uint32_t shifts[16];
  constexpr UnpackTable() : bytes(), shifts() {
    for (int i = 0; i < 16; ++i) {
      bytes[4 * i] = static_cast<uint8_t>(i * bits / 8);
      bytes[4 * i + 1] = static_cast<uint8_t>(i * bits / 8 + 1);
      bytes[4 * i + 2] = bytes[4 * i + 3] = 0x80;  // zero
      shifts[i] = static_cast<uint32_t>(i * bits % 8);
    }
  }
};
template <int bits>
constexpr UnpackTable<bits> kUnpack{};
