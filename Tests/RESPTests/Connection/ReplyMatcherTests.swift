import NIOCore
import Testing

@testable import RESP

struct ReplyMatcherTests {
    private let now = NIODeadline.uptimeNanoseconds(0)

    private func make(isRESP3: Bool) -> ReplyMatcher<Int> {
        var matcher = ReplyMatcher<Int>()
        matcher.isRESP3 = isRESP3
        #expect(matcher.count == 0 && matcher.oldest == nil)
        return matcher
    }

    private func elements(_ kind: String, _ channel: String, _ last: RESPValue) -> [RESPValue] {
        [.bulkString(buffer(kind)), .bulkString(buffer(channel)), last]
    }

    /// As the version of the protocol writes it.
    private func pushed(_ isRESP3: Bool, _ kind: String, _ channel: String, _ last: RESPValue) -> RESPValue {
        isRESP3 ? .push(self.elements(kind, channel, last)) : .array(self.elements(kind, channel, last))
    }

    /// For comparing.
    private func text(_ action: ReplyMatcher<Int>.Action) -> String {
        switch action {
        case .reply(let token, let value): "reply \(token) \(RESPTests.text(value))"
        case .acknowledged(let verb, let channel, let completes):
            "\(verb) \(String(buffer: channel)) \(completes.map { "\($0)" } ?? "-")"
        case .message(let channel, let payload): "message \(String(buffer: channel)) \(String(buffer: payload))"
        case .nothing: "nothing"
        }
    }

    private func receive(_ matcher: inout ReplyMatcher<Int>, _ value: RESPValue) -> String {
        do throws(RESPError) {
            return self.text(try matcher.received(value))
        } catch {
            return "error \(error.message)"
        }
    }

    @Test(arguments: [true, false])
    func inOrder(isRESP3: Bool) {
        var matcher = self.make(isRESP3: isRESP3)
        for token in 1...3 { matcher.sent(token, .reply, at: self.now) }
        #expect(self.receive(&matcher, .number(7)) == "reply 1 :7")
        #expect(self.receive(&matcher, .array([.number(1)])) == "reply 2 *[:1]")
        #expect(self.receive(&matcher, .simpleError(buffer("ERR"))) == "reply 3 -ERR")
        #expect(self.receive(&matcher, .null) == "error an answer to no command")
    }

    @Test(arguments: [true, false])
    func acknowledgements(isRESP3: Bool) {
        var matcher = self.make(isRESP3: isRESP3)
        matcher.sent(1, .acknowledgements(.subscribe, missing: 2), at: self.now)
        matcher.sent(2, .acknowledgements(.unsubscribe, missing: 1), at: self.now)
        matcher.sent(3, .reply, at: self.now)
        #expect(self.receive(&matcher, self.pushed(isRESP3, "subscribe", "a", .number(1))) == "subscribe a -")
        #expect(self.receive(&matcher, self.pushed(isRESP3, "message", "a", .bulkString(buffer("x")))) == "message a x")
        #expect(self.receive(&matcher, self.pushed(isRESP3, "subscribe", "b", .number(2))) == "subscribe b 1")
        #expect(self.receive(&matcher, self.pushed(isRESP3, "unsubscribe", "a", .number(1))) == "unsubscribe a 2")
        // RESP2 answers a PING like this while there are subscriptions.
        let pong: RESPValue =
            isRESP3 ? .simpleString(buffer("PONG")) : .array([.bulkString(buffer("pong")), .bulkString(buffer(""))])
        #expect(self.receive(&matcher, pong) == (isRESP3 ? "reply 3 +PONG" : "reply 3 *[$pong $]"))
        #expect(matcher.count == 0)
    }

    /// Without subscriptions an array of RESP2 is an answer again, whatever is in it.
    @Test func arraysAfterTheLastSubscription() {
        var matcher = self.make(isRESP3: false)
        matcher.sent(1, .acknowledgements(.subscribe, missing: 1), at: self.now)
        matcher.sent(2, .acknowledgements(.unsubscribe, missing: 1), at: self.now)
        matcher.sent(3, .reply, at: self.now)
        #expect(self.receive(&matcher, self.pushed(false, "subscribe", "a", .number(1))) == "subscribe a 1")
        #expect(self.receive(&matcher, self.pushed(false, "unsubscribe", "a", .number(0))) == "unsubscribe a 2")
        #expect(
            self.receive(&matcher, self.pushed(false, "message", "a", .bulkString(buffer("x"))))
                == "reply 3 *[$message $a $x]")
    }

    @Test func refusedSubscription() {
        var matcher = self.make(isRESP3: true)
        matcher.sent(1, .acknowledgements(.subscribe, missing: 2), at: self.now)
        matcher.sent(2, .reply, at: self.now)
        #expect(self.receive(&matcher, .simpleError(buffer("NOPERM no"))) == "reply 1 -NOPERM no")
        #expect(self.receive(&matcher, .number(1)) == "reply 2 :1")
    }

    @Test func pushesOfOtherKinds() {
        var matcher = self.make(isRESP3: true)
        #expect(self.receive(&matcher, .push([.bulkString(buffer("invalidate")), .array([])])) == "nothing")
        #expect(self.receive(&matcher, .push([.bulkString(buffer("pmessage"))])) == "nothing")
        #expect(self.receive(&matcher, .push([])) == "error a push without a kind")
        #expect(self.receive(&matcher, .push([.number(1)])) == "error a push without a kind")
    }

    @Test func whatCannotBe() {
        var matcher = self.make(isRESP3: true)
        #expect(
            self.receive(&matcher, self.pushed(true, "subscribe", "a", .number(1)))
                == "error an acknowledgement of a subscribe that was not sent")
        matcher.sent(1, .acknowledgements(.subscribe, missing: 1), at: self.now)
        #expect(
            self.receive(&matcher, self.pushed(true, "unsubscribe", "a", .number(1)))
                == "error an acknowledgement of a unsubscribe that was not sent")
        #expect(
            self.receive(&matcher, .simpleString(buffer("OK")))
                == "error an answer to a subscription that is not an acknowledgement")
        #expect(
            self.receive(&matcher, .push([.bulkString(buffer("message")), .null]))
                == "error a message that is not a channel and a payload")
        #expect(
            self.receive(&matcher, .push(self.elements("subscribe", "a", .null)))
                == "error an acknowledgement that is not a channel and a count")
        var old = self.make(isRESP3: false)
        old.sent(1, .acknowledgements(.subscribe, missing: 1), at: self.now)
        #expect(
            self.receive(&old, .array([.bulkString(buffer("what"))]))
                == "error an array of an unknown kind on a subscribed connection")
    }

    @Test func theEnd() {
        var matcher = self.make(isRESP3: true)
        matcher.sent(1, .reply, at: self.now + .seconds(1))
        matcher.sent(2, .reply, at: self.now + .seconds(2))
        #expect(matcher.oldest == self.now + .seconds(1))
        #expect(matcher.removeAll() == [1, 2])
        #expect(matcher.count == 0)
    }
}
