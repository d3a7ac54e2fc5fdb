// The emulator's own half in one piece, compiled once: the standard headers are read once for all five files.
#include "hooks.cpp"
#include "memory.cpp"
#include "races.cpp"
#include "scheduler.cpp"
#include "trace.cpp"
