import HoldfastProtocol
import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import HoldfastServer

@Suite("Messages that are repeated")
struct MessageWindowTests {
    private let ignore: @Sendable (CallbackAnswer) -> Void = { _ in }

    private func key(_ id: String, data: String = "1", user: String = "u") -> MessageWindow.Key {
        MessageWindow.Key(
            id: JSONValue(id),
            [.init(name: "user", value: JSONValue(user)), .init(name: "data", value: JSONValue(data))])
    }

    private func answer(_ text: String) -> CallbackAnswer {
        .object(JSONObject([.init(name: "data", value: JSONValue(text))]))
    }

    @Test func theFirstAnswerIsGivenAgain() {
        let window = MessageWindow(limit: 10, time: .seconds(60))
        guard case .new = window.enter(self.key("a"), now: .now(), self.ignore) else { return #expect(Bool(false)) }
        window.finish(self.key("a"), self.answer("yes"), now: .now())
        guard case .answered(let answer) = window.enter(self.key("a"), now: .now(), self.ignore) else {
            return #expect(Bool(false))
        }
        #expect(answer.data?.string == "yes")
        #expect(window.repeated == 1)
    }

    @Test func othersAreOthers() {
        let window = MessageWindow(limit: 10, time: .seconds(60))
        for key in [self.key("a"), self.key("b"), self.key("a", data: "2"), self.key("a", user: "v")] {
            guard case .new = window.enter(key, now: .now(), self.ignore) else { return #expect(Bool(false)) }
        }
        #expect(window.count == 4)
    }

    @Test func allWhoWaitAreToldOnce() {
        let window = MessageWindow(limit: 10, time: .seconds(60))
        let told = NIOLockedValueBox(0)
        for number in 0..<3 {
            switch window.enter(self.key("a"), now: .now(), { _ in told.withLockedValue { $0 += 1 } }) {
            case .new: #expect(number == 0)
            case .underWay: #expect(number > 0)
            case .answered: #expect(Bool(false))
            }
        }
        window.finish(self.key("a"), self.answer("yes"), now: .now())
        window.finish(self.key("a"), self.answer("no"), now: .now())
        #expect(told.withLockedValue { $0 } == 2)
    }

    @Test func whatCouldNotBeAnsweredIsForgotten() {
        let window = MessageWindow(limit: 10, time: .seconds(60))
        for answer in [
            CallbackAnswer.unavailable, .malformed, self.answer(String(repeating: "x", count: 20_000)),
        ] {
            guard case .new = window.enter(self.key("a"), now: .now(), self.ignore) else { return #expect(Bool(false)) }
            window.finish(self.key("a"), answer, now: .now())
            #expect(window.count == 0)
        }
    }

    @Test func itIsBoundedAndEnds() {
        let window = MessageWindow(limit: 3, time: .seconds(60))
        let start = NIODeadline.uptimeNanoseconds(0)
        for number in 0..<5 {
            _ = window.enter(self.key("\(number)"), now: start, self.ignore)
            window.finish(self.key("\(number)"), self.answer("yes"), now: start)
        }
        #expect(window.count == 3)
        guard case .answered = window.enter(self.key("4"), now: start + .seconds(59), self.ignore) else {
            return #expect(Bool(false))
        }
        guard case .new = window.enter(self.key("4"), now: start + .seconds(60), self.ignore) else {
            return #expect(Bool(false))
        }
        #expect(window.count == 1)
    }

    @Test func manyThatWereUnderWayAtOnceAreBoundedToo() {
        let window = MessageWindow(limit: 1, time: .seconds(60))
        for id in ["a", "b", "c"] { _ = window.enter(self.key(id), now: .now(), self.ignore) }
        for id in ["a", "b", "c"] { window.finish(self.key(id), self.answer("yes"), now: .now()) }
        #expect(window.count == 1)
    }

    /// A service that is down must not push out what others have answered.
    @Test func whatFailedTakesNobodysPlace() {
        let window = MessageWindow(limit: 1, time: .seconds(60))
        _ = window.enter(self.key("good"), now: .now(), self.ignore)
        window.finish(self.key("good"), self.answer("yes"), now: .now())
        for id in ["a", "b", "a"] {
            _ = window.enter(self.key(id), now: .now(), self.ignore)
            window.finish(self.key(id), .unavailable, now: .now())
        }
        guard case .answered = window.enter(self.key("good"), now: .now(), self.ignore) else {
            return #expect(Bool(false))
        }
    }

    @Test func theBytesOfAnswersAreBounded() {
        let window = MessageWindow(limit: 100, bytes: 50, time: .seconds(60))
        for id in ["a", "b", "c"] {
            _ = window.enter(self.key(id), now: .now(), self.ignore)
            window.finish(self.key(id), self.answer(String(repeating: "x", count: 15)), now: .now())
        }
        // 4 of the name, 15 and two quotes each.
        #expect(window.count == 2)
    }

    @Test func whereNoneAreRememberedAllAreNew() {
        let window = MessageWindow(limit: 0, time: .seconds(60))
        for _ in 0..<2 {
            guard case .new = window.enter(self.key("a"), now: .now(), self.ignore) else { return #expect(Bool(false)) }
            window.finish(self.key("a"), self.answer("yes"), now: .now())
        }
        #expect(window.count == 0)
    }
}
