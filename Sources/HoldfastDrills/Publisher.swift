import Foundation
import HoldfastClient
import NIOCore
import Synchronization

/// Publishes `{"n":1}`, `{"n":2}` … and keeps the books of what was accepted.
final class Publisher: Sendable {
    struct Books {
        /// The last number that was tried.
        var last: UInt64 = 0
        var accepted = Set<UInt64>()
        /// The publication was not answered.
        var uncertain = Set<UInt64>()
        /// In words, the last time that one was not accepted.
        var lastProblem: String?
        /// When the publication of each was begun.
        var begunAt: [UInt64: Double] = [:]
        /// The newest that was accepted.
        var lastAccepted: UInt64?

        /// What a client must have that was ready at that time.
        func expected(since ready: Double) -> Set<UInt64> {
            self.accepted.filter { (self.begunAt[$0] ?? 0) >= ready }
        }
    }

    /// Takes one event. Throws what the publisher is told.
    typealias Take = @Sendable (_ data: ByteBuffer, _ subscription: String) async throws -> Void

    private let subscription: String
    private let interval: Double
    private let clock: DrillClock
    private let take: [Take]
    private let books = Mutex(Books())
    private let task = Mutex<Task<Void, any Error>?>(nil)

    /// - Parameters:
    ///   - interval: seconds between two events.
    ///   - take: each event goes to all of them; it is accepted when one accepts it.
    init(subscription: String, interval: Double, clock: DrillClock, take: [Take]) {
        self.subscription = subscription
        self.interval = interval
        self.clock = clock
        self.take = take
    }

    /// Publishes until ``stop()``. What one publication takes longer than the interval, the next ones catch up.
    func start() {
        let task = Task {
            var next = self.clock.now
            while !Task.isCancelled {
                await self.publish()
                next += self.interval
                // Nobody is helped by a burst after a long pause.
                next = max(next, self.clock.now - 5 * self.interval)
                try await pass(self.clock, until: next)
            }
        }
        self.task.withLock { $0 = task }
    }

    func stop() async {
        let task = self.task.withLock { task in
            defer { task = nil }
            return task
        }
        task?.cancel()
        _ = await task?.result
    }

    private func publish() async {
        let begun = self.clock.now
        let number = self.books.withLock { books in
            books.last += 1
            books.begunAt[books.last] = begun
            return books.last
        }
        let data = ByteBuffer(string: "{\"n\":\(number)}")
        let outcome = await withTaskGroup(of: Result<Void, any Error>.self) { group in
            for take in self.take {
                group.addTask {
                    do {
                        return .success(try await take(data, self.subscription))
                    } catch {
                        return .failure(error)
                    }
                }
            }
            var outcome = Outcome.refused
            for await result in group { outcome = max(outcome, self.outcome(of: result)) }
            return outcome
        }
        self.books.withLock { books in
            switch outcome {
            case .accepted:
                books.accepted.insert(number)
                books.lastAccepted = number
            case .uncertain: books.uncertain.insert(number)
            case .refused: break
            }
        }
    }

    private enum Outcome: Int, Comparable {
        case refused, uncertain, accepted
        static func < (left: Outcome, right: Outcome) -> Bool { left.rawValue < right.rawValue }
    }

    private func outcome(of result: Result<Void, any Error>) -> Outcome {
        switch result {
        case .success: return .accepted
        case .failure(let error):
            self.books.withLock { $0.lastProblem = "\(error)" }
            // Without an answer nobody knows; `cancelled` is the end of the drill in the middle of one.
            let isUnanswered = (error as? HoldfastError).map { $0.code == "unreachable" } ?? true
            return isUnanswered ? .uncertain : .refused
        }
    }

    var current: Books { self.books.withLock { $0 } }
}

extension Publisher {
    /// Through the server API of a gateway, once: a repetition would be the drill's, not the gateway's.
    static func api(url: String, key: String?) throws -> Take {
        var publisher = try EventPublisher(url: url, apiKey: key)
        publisher.timeout = .seconds(2)
        publisher.tries = 1
        return { [publisher] data, subscription in
            try await publisher.publish(data, to: subscription, idempotencyKey: nil)
        }
    }

    /// Through a command that reads `{"subscription":…,"data":…}` from its standard input, line by line.
    static func command(_ child: ChildProcess) -> Take {
        { data, subscription in
            guard child.send("{\"subscription\":\"\(subscription)\",\"data\":\(String(buffer: data))}") else {
                throw DrillError(
                    "the publish command has ended: \(child.lastErrors.suffix(3).joined(separator: " / "))")
            }
        }
    }
}
