#include "formats/encodings/encoding.h"
