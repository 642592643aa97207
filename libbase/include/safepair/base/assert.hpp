#pragma once

namespace safepair::base {

/// Prints `expression`, its place and `why` to stderr and aborts. Never returns.
[[noreturn]] void assertion_failed(const char* expression,
                                   const char* file,
                                   int line,
                                   const char* why) noexcept;

}  // namespace safepair::base

/// Stays on in release: it is for our own mistakes, where a crash is a failover and a wrong acknowledgement is lost
/// data. Never use it on bytes from a peer, a disk, an operator or a configuration file.
#define SAFEPAIR_ASSERT(expression, why)                                                        \
    do {                                                                                        \
        if (!(expression)) {                                                                    \
            ::safepair::base::assertion_failed(#expression, __FILE__, __LINE__, why);           \
        }                                                                                       \
    } while (false)
