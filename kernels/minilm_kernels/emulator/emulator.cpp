// The emulator's own half in one piece, compiled once: the standard headers are read once for all six files.
#include "hooks.cpp"
#include "hopper.cpp"
#include "memory.cpp"
#include "races.cpp"
#include "scheduler.cpp"
#include "trace.cpp"
