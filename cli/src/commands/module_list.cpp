#include "commands/commands.hpp"
#include "output.hpp"
#include "rows.hpp"
#include "text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <ostream>

namespace safepair::cli {

namespace {

std::string render_table(const v1::ListModulesReply& reply, bool with_headers) {
    Table table({"MODULE", "KIND", "NODES", "BOOT", "FOLDER", "FILE"});
    for (const auto& module : reply.modules()) {
        table.add({{printable(module.name())},
                   {printable(module.kind())},
                   {printable(fmt::format("{}", fmt::join(module.nodes(), ",")))},
                   {printable(module.boot())},
                   {printable(module.folder())},
                   {printable(module.file())}});
    }
    return table.render(with_headers, false);
}

}  // namespace

ExitCode run_module_list(const Arguments& arguments, Console& console) {
    const auto client = Client::connect(arguments.socket);
    if (!client) {
        return report(console, client.error());
    }
    auto reply = client->modules();
    if (!reply) {
        return report(console, reply.error());
    }
    if (!arguments.node.empty()) {
        auto& modules = *reply->mutable_modules();
        modules.erase(std::remove_if(modules.begin(),
                                     modules.end(),
                                     [&](const auto& module) {
                                         const auto& nodes = module.nodes();
                                         return std::find(nodes.begin(),
                                                          nodes.end(),
                                                          arguments.node) == nodes.end();
                                     }),
                      modules.end());
    }
    if (is_structured(arguments.format)) {
        Json list = Json::array();
        for (const auto& module : reply->modules()) {
            list.push_back(to_json(module));
        }
        console.out << render(Json{{"modules", list}}, arguments.format);
        return ExitCode::ok;
    }
    if (arguments.format == Format::name) {
        for (const auto& module : reply->modules()) {
            console.out << module.name() << "\n";
        }
        return ExitCode::ok;
    }
    if (reply->modules().empty()) {
        console.err << (arguments.node.empty() ? known_modules(*client)
                                               : "No module is configured on " + arguments.node)
                    << "\n";
        return ExitCode::ok;
    }
    console.out << render_table(*reply, arguments.headers);
    return ExitCode::ok;
}

}  // namespace safepair::cli
