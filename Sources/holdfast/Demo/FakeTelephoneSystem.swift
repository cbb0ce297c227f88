import Foundation
import HoldfastClient
import Logging
import NIOCore

/// Publishes what happens on a ``Switchboard`` through the gateway's HTTP API, as any backend would.
///
/// Each event is published once, and in order: a call that failed is repeated with the same idempotency key before the next
/// event is made.
actor FakeTelephoneSystem {
    static let subscription = "calls.live"

    /// Tells the starts of the demo apart; part of each event.
    nonisolated let run: String

    private let publisher: EventPublisher
    private let logger: Logger
    /// Events per second.
    private let rate: Double
    private var switchboard = Switchboard()
    private var random = SystemRandomNumberGenerator()
    private let encoder = JSONEncoder()

    /// Number of the last event that the gateway has accepted.
    private(set) var published = 0

    init(publisher: EventPublisher, rate: Double, logger: Logger) {
        self.publisher = publisher
        self.rate = rate
        self.logger = logger
        self.run = String(UInt64.random(in: 0...UInt64.max), radix: 36)
    }

    /// Publishes at an even pace until the task is cancelled.
    func publishUntilCancelled() async {
        let clock = ContinuousClock()
        var due = clock.now
        while !Task.isCancelled {
            await self.publishNext()
            due += .seconds(1 / self.rate)
            // After a pause, such as a laptop's sleep, it goes on from now: nobody wants the calls of an hour at once.
            due = max(due, clock.now)
            try? await clock.sleep(until: due)
        }
    }

    private func publishNext() async {
        let (call, what) = self.switchboard.next(now: Self.now(), using: &self.random)
        let number = self.published + 1
        var isComplaining = false
        while !Task.isCancelled {
            // The time is that of the attempt, so that the delay that a page shows is that of the line.
            if let data = self.encode(call, what, number: number) {
                do {
                    let key = "\(self.run)-\(number)"
                    try await self.publisher.publish(data, to: Self.subscription, idempotencyKey: key)
                    self.published = number
                    return
                } catch {
                    self.complain("\(error)", once: &isComplaining)
                }
            }
            try? await Task.sleep(for: .milliseconds(200))
        }
    }

    private func encode(_ call: Call, _ what: CallEvent.What, number: Int) -> ByteBuffer? {
        let event = CallEvent(
            n: number, run: self.run, at: Self.now(),
            call: call.id, what: what, state: call.state, from: call.from, to: call.to,
            began: call.began, answered: call.answered, ended: call.ended, sound: call.sound
        )
        do {
            return ByteBuffer(bytes: try self.encoder.encode(event))
        } catch {
            self.logger.error("an event cannot be encoded", metadata: ["error": "\(error)"])
            return nil
        }
    }

    private func complain(_ why: String, once isComplaining: inout Bool) {
        guard !isComplaining, !Task.isCancelled else { return }
        isComplaining = true
        self.logger.warning("the telephone system cannot publish, it tries again", metadata: ["why": "\(why)"])
    }

    /// Milliseconds since 1970, with fractions.
    static func now() -> Double {
        Date().timeIntervalSince1970 * 1000
    }
}
