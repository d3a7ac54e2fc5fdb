// The emulator's own half in one piece, compiled once: the standard headers are read once for all six files.
#ifdef __APPLE__  // otherwise ucontext.h refuses to be read
#define _XOPEN_SOURCE 700
#define _DARWIN_C_SOURCE
#endif
#include "hooks.cpp"
#include "hopper.cpp"
#include "memory.cpp"
#include "races.cpp"
#include "scheduler.cpp"
#include "trace.cpp"
