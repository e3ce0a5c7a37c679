// SIGINT, SIGTERM and SIGHUP ask the program to stop at the next safe point; a second one ends it
// at once. A SIGHUP that was ignored at the start (nohup) stays ignored.
#pragma once

#include "core/cancel.h"

namespace pith::tools {

// The token of this program, which everything that may take long is given. Its reason is the
// signal.
CancelToken& interrupt();
void install_interrupt_handler();

}  // namespace pith::tools
