#include "event_loop.hpp"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include <csignal>
#include <mutex>
#include <thread>

#include <pthread.h>

namespace safepair::hyperv {

void start_libvirt() {
    static std::once_flag once;
    std::call_once(once, [] {
        virSetErrorFunc(nullptr, [](void*, virErrorPtr) {});
        virInitialize();
        virEventRegisterDefaultImpl();
        // Signals are for the threads of whoever embeds us.
        sigset_t all;
        sigset_t before;
        sigfillset(&all);
        ::pthread_sigmask(SIG_SETMASK, &all, &before);
        // It serves every connection of this process and ends with it, so nobody joins it.
        std::thread([] {
            for (;;) {
                virEventRunDefaultImpl();
            }
        }).detach();
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    });
}

}  // namespace safepair::hyperv
