// SIGINT and SIGTERM ask the program to stop at the next safe point; a second one ends it at once.
#pragma once

namespace pith {

void install_interrupt_handler();
bool interrupted();
void check_interrupt();  // Error(kCancelled) after a signal

}  // namespace pith
