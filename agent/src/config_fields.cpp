#include "config_fields.hpp"

#include "config.hpp"

#include <fmt/format.h>

namespace safepair::agent {

void read_heartbeat(yaml::Section& section,
                    base::Duration& pulse,
                    base::Duration& timeout,
                    yaml::Mistakes& mistakes) {
    const auto value = section.take("heartbeat");
    if (!value) {
        return;
    }
    yaml::Section heartbeat(*value, mistakes);
    bool readable = true;
    const auto read =
        [&](const char* key, base::Duration& into, base::Duration minimum, base::Duration maximum) {
            if (const auto given = heartbeat.take(key)) {
                const auto length = yaml::duration(*given, minimum, maximum, mistakes);
                readable = readable && length.has_value();
                into = length.value_or(into);
            }
        };
    read("pulse", pulse, config_limits::pulse_min, config_limits::pulse_max);
    read("timeout", timeout, config_limits::timeout_min, config_limits::timeout_max);
    heartbeat.finish();
    if (readable && timeout < pulse * config_limits::timeout_pulses_min) {
        mistakes.add(
            value->line(),
            "heartbeat",
            fmt::format("timeout {} is less than {} pulses of {}; lengthen it or shorten the pulse",
                        yaml::to_text(timeout),
                        config_limits::timeout_pulses_min,
                        yaml::to_text(pulse)));
    }
}

}  // namespace safepair::agent
