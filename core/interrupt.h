// SIGINT, SIGTERM and SIGHUP ask the program to stop at the next safe point; a second one ends it
// at once. A SIGHUP that was ignored at the start (nohup) stays ignored.
#pragma once

namespace pith {

void install_interrupt_handler();
bool interrupted();
int interrupt_signal();  // the signal that asked; 0 where none did
void clear_interrupt();  // for programs that answer a SIGINT and go on
void check_interrupt();  // Error(kCancelled) after a signal

}  // namespace pith
