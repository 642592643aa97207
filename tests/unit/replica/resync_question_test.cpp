#include "io/resync_question.hpp"

#include "support/catch.hpp"

#include <thread>

using namespace safepair;
using namespace safepair::replica;

namespace {

/// Only asks; keeps the answers to be given.
class AskingLink final : public ResyncLink {
  public:
    std::unique_ptr<Lock> lock_range(FileId, std::uint64_t, std::uint64_t) override { return {}; }

    std::unique_ptr<Lock> lock_everything() override { return {}; }

    base::Result<void> send(const ResyncRecord&) override { return {}; }

    void ask(std::span<const std::byte> question, Answer answer) override {
        asked.emplace_back(question.begin(), question.end());
        answers.push_back(std::move(answer));
    }

    DirtyMap attach_application() override { return {}; }

    base::Result<void> flush_both() override { return {}; }

    bool cancelled() const override { return false; }

    std::vector<std::vector<std::byte>> asked;
    std::vector<Answer> answers;
};

}  // namespace

TEST_CASE("PendingAnswer: the asker waits for the session's thread", "[resync]") {
    AskingLink link;
    Question question;
    question.kind = Question::Kind::tree;
    auto pending = PendingAnswer::ask(link, question);
    REQUIRE(link.asked.size() == 1);
    CHECK(link.asked[0] == encode_question(question));
    std::thread session([&] { link.answers[0](std::vector<std::byte>{std::byte{42}}); });
    const auto answer = pending.wait();
    session.join();
    REQUIRE(answer);
    CHECK(*answer == std::vector<std::byte>{std::byte{42}});
}

TEST_CASE("PendingAnswer: the session may be lost, and the asker may be gone", "[resync]") {
    AskingLink link;
    {
        auto pending = PendingAnswer::ask(link, {});
        link.answers[0](base::error(base::Errc::peer_unreachable, "lost"));
        const auto answer = pending.wait();
        REQUIRE_FALSE(answer);
        CHECK(answer.error().code == base::Errc::peer_unreachable);
        auto never_waited = PendingAnswer::ask(link, {});
    }
    // Must not touch what the asker took along.
    link.answers[1](std::vector<std::byte>{});
    CHECK(link.answers.size() == 2);
}
