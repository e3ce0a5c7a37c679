// The 16 values of nf4 (formats/encodings/int_group.h), for the kernel files: included inside their
// anonymous namespaces.
alignas(64) constexpr float kNf4[16] = {
#include "formats/encodings/nf4_values.inc"
};
