#include "io/resync_question.hpp"

#include <utility>

namespace safepair::replica {

PendingAnswer PendingAnswer::ask(ResyncLink& link, const Question& question) {
    PendingAnswer pending;
    link.ask(encode_question(question),
             [slot = pending.slot_](base::Result<std::vector<std::byte>> answer) {
                 const std::lock_guard lock(slot->mutex);
                 slot->answer.emplace(std::move(answer));
                 slot->arrived.notify_all();
             });
    return pending;
}

base::Result<std::vector<std::byte>> PendingAnswer::wait() {
    std::unique_lock lock(slot_->mutex);
    slot_->arrived.wait(lock, [this] { return slot_->answer.has_value(); });
    return std::move(*slot_->answer);
}

}  // namespace safepair::replica
