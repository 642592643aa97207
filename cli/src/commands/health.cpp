#include "health.hpp"

#include "commands/commands.hpp"
#include "output.hpp"
#include "text.hpp"

#include <ostream>

namespace safepair::cli {

namespace {

int print(const HealthReport& report, const Arguments& arguments, Console& console) {
    if (is_structured(arguments.format)) {
        Json record;
        record["status"] = health_word(report.health);
        record["code"] = static_cast<int>(report.health);
        record["text"] = report.text;
        record["modules"] = Json::array();
        for (const auto& module : report.modules) {
            record["modules"].push_back(Json{{"module", module.module},
                                             {"status", health_word(module.health)},
                                             {"text", module.text}});
        }
        console.out << render(record, arguments.format);
    } else {
        const auto style = report.health == Health::ok        ? Style::good
                           : report.health == Health::warning ? Style::busy
                                                              : Style::bad;
        console.out << styled(health_word(report.health), style, console.out_color) << " - "
                    << report.text << "\n";
    }
    return static_cast<int>(report.health);
}

/// A monitoring system reads stdout, so what went wrong goes there as well.
int print_unknown(const base::Error& error, const Arguments& arguments, Console& console) {
    HealthReport report;
    report.text = printable(error.context.empty() ? error.message() : error.context);
    return print(report, arguments, console);
}

}  // namespace

int run_health(const Arguments& arguments, Console& console) {
    const auto client = Client::connect(arguments.socket);
    if (!client) {
        return print_unknown(client.error(), arguments, console);
    }
    const auto reply = client->status(status_request(arguments));
    if (!reply) {
        return print_unknown(with_known_names(*client, reply.error()), arguments, console);
    }
    if (const auto checked = check_node(*reply, arguments.node); !checked) {
        return print_unknown(checked.error(), arguments, console);
    }
    return print(judge(*reply, arguments.node), arguments, console);
}

}  // namespace safepair::cli
