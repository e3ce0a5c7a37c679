// SIGINT, SIGTERM and SIGHUP ask the program to stop at the next safe point; a second one ends it
// at once. A SIGHUP that was ignored at the start (nohup) stays ignored.
#pragma once

namespace pith {

void install_interrupt_handler();
bool interrupted();
int interrupt_signal();  // the signal that asked; 0 where none did
// Waits until something can be read from the descriptor, or its end: true; false once a signal
// asked to stop, be it before the call. No signal is missed, whichever thread gets it.
bool wait_for_input(int descriptor);
void clear_interrupt();  // for programs that answer a SIGINT and go on
void check_interrupt();  // Error(kCancelled) after a signal

}  // namespace pith
