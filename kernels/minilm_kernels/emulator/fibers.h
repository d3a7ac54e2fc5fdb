// A fiber: a function that runs on a stack of its own and gives up the processor only when it says so.
//
// With glibc, on macOS and BSD: makecontext prepares the stack, _setjmp and _longjmp switch (40 ns; swapcontext asks the
// kernel to change the signal mask each time, 700 ns). With other C libraries, which have no makecontext (musl), or with
// -DMINILM_FIBERS_FROM_THREADS: a thread of the operating system for each fiber, of which one at a time is allowed to
// run (some microseconds a switch).
#pragma once
#include <stdlib.h>  // tells which C library this is

#if (defined(__GLIBC__) || defined(__APPLE__) || defined(__FreeBSD__)) && !defined(MINILM_FIBERS_FROM_THREADS)

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

namespace emulator {

class Fiber {
  public:
    static constexpr size_t STACK = 256 << 10;  // reserved; the system gives memory for what is touched

    // Runs `body` from its beginning, or goes on where the fiber paused; comes back when it pauses or ends.
    void resume(void (*body)()) {
        if (_setjmp(outside_)) return;
        if (prepared_) _longjmp(inside_, 1);
        prepared_ = true;
        body_ = body;
        starting = this;
        getcontext(&context_);
        context_.uc_stack.ss_sp = stack_;
        context_.uc_stack.ss_size = STACK;
        context_.uc_link = nullptr;
        makecontext(&context_, begin, 0);
        setcontext(&context_);
    }

    // Goes back to whoever resumed the fiber. Called from inside.
    void pause() {
        if (!_setjmp(inside_)) _longjmp(outside_, 1);
    }

    // What the fiber was doing is forgotten: the next resume begins anew.
    void reset() { prepared_ = false; }

    bool allocate() {
        if (!stack_) {
            void* memory = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
            stack_ = memory == MAP_FAILED ? nullptr : static_cast<char*>(memory);
        }
        return stack_ != nullptr;
    }
    const char* stack() const { return stack_; }

    Fiber() = default;
    Fiber(const Fiber&) = delete;
    ~Fiber() {
        if (stack_) munmap(stack_, STACK);
    }

  private:
    static inline Fiber* starting = nullptr;

    static void begin() {
        Fiber* me = starting;
        for (;;) {
            me->body_();
            me->pause();  // ended; the next block's thread begins here, without a new context
        }
    }

    char* stack_ = nullptr;
    void (*body_)() = nullptr;
    bool prepared_ = false;
    ucontext_t context_;
    jmp_buf inside_, outside_;
};

}  // namespace emulator

#else

#include <setjmp.h>

#include <condition_variable>
#include <mutex>
#include <thread>

namespace emulator {

class Fiber {
  public:
    static constexpr size_t STACK = 512 << 10;  // what is looked at of the stack that the system provides

    void resume(void (*body)()) {
        std::unique_lock<std::mutex> lock(mutex_);
        body_ = body;
        if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
        inside_turn_ = true;
        turn_.notify_all();
        turn_.wait(lock, [this] { return !inside_turn_; });
    }

    void pause() {
        std::unique_lock<std::mutex> lock(mutex_);
        inside_turn_ = false;
        turn_.notify_all();
        turn_.wait(lock, [this] { return inside_turn_ || ending_; });
        if (ending_) {
            lock.unlock();
            longjmp(top_of_thread_, 1);
        }
    }

    void reset() {
        if (!thread_.joinable()) return;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            ending_ = true;
            turn_.notify_all();
        }
        thread_.join();
        ending_ = false;
    }

    bool allocate() { return true; }
    const char* stack() const { return top_ - STACK; }

    Fiber() = default;
    Fiber(const Fiber&) = delete;
    ~Fiber() { reset(); }

  private:
    void run() {
        char here;
        top_ = &here + 64;
        {
            std::unique_lock<std::mutex> lock(mutex_);
            turn_.wait(lock, [this] { return inside_turn_; });
        }
        if (setjmp(top_of_thread_)) return;  // the launch was given up: what the fiber was doing is forgotten
        for (;;) {
            body_();
            pause();
        }
    }

    jmp_buf top_of_thread_;
    const char* top_ = nullptr;
    std::thread thread_;
    std::mutex mutex_;
    std::condition_variable turn_;
    void (*body_)() = nullptr;
    bool inside_turn_ = false, ending_ = false;
};

}  // namespace emulator

#endif
