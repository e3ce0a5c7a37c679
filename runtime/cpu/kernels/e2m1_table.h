// Codes of 4-bit floats e2m1 as integers: twice what they mean, plus 12. For the kernel files:
// included inside their namespaces.
alignas(16) constexpr uint8_t kE2M1Codes[16] = {12, 13, 14, 15, 16, 18, 20, 24,
                                                12, 11, 10, 9,  8,  6,  4,  0};
