// A fiber: a function that runs on a stack of its own and gives up the processor only when it says so.
//
// POSIX: makecontext prepares the stack, _setjmp and _longjmp switch (40 ns; swapcontext asks the kernel to change the
// signal mask each time, 700 ns). Elsewhere (Windows), or with -DMINILM_FIBERS_FROM_THREADS: a thread of the operating
// system for each fiber, of which one at a time is allowed to run (some microseconds a switch).
#pragma once
#include <stddef.h>

#if !defined(MINILM_FIBERS_FROM_THREADS) && !defined(_WIN32)
#define MINILM_FIBERS_FROM_CONTEXTS 1
#endif

#ifdef MINILM_FIBERS_FROM_CONTEXTS
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

namespace emulator {

class Fiber {
  public:
    static constexpr size_t STACK = 256 << 10;

    Fiber() = default;
    Fiber(const Fiber&) = delete;
    ~Fiber() {
        if (stack_) munmap(stack_, STACK);
    }

    // Makes the fiber ready to run `entry` from its beginning. Whatever it did before is forgotten.
    bool prepare(void (*entry)()) {
        if (!stack_) {
            void* memory = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
            if (memory == MAP_FAILED) return false;
            stack_ = static_cast<char*>(memory);
        }
        entry_ = entry;
        started_ = false;
        return true;
    }

    // Runs the fiber until it pauses. Called from outside of any fiber.
    void resume() {
        if (_setjmp(outside_)) return;
        if (started_) _longjmp(inside_, 1);
        started_ = true;
        getcontext(&context_);
        context_.uc_stack.ss_sp = stack_;
        context_.uc_stack.ss_size = STACK;
        context_.uc_link = nullptr;
        makecontext(&context_, entry_, 0);
        setcontext(&context_);
    }

    // Goes back to whoever resumed the fiber. Called from inside.
    void pause() {
        if (!_setjmp(inside_)) _longjmp(outside_, 1);
    }

    // Goes back for good: the fiber never comes after this.
    [[noreturn]] void leave() { _longjmp(outside_, 1); }

    const char* stack_begin() const { return stack_; }
    const char* stack_end() const { return stack_ + STACK; }

  private:
    char* stack_ = nullptr;
    void (*entry_)() = nullptr;
    bool started_ = false;
    ucontext_t context_;
    jmp_buf inside_, outside_;
};

}  // namespace emulator
#else
#error "not yet"
#endif
