// The executor of this machine's processor. Activations are f32; sums of a linear layer run over k
// in an order that depends on its shape and on m alone, never on threads: rows of the weight are
// shared out, k is not.
#pragma once

#include "runtime/executor.h"
