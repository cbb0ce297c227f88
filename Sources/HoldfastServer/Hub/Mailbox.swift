import HoldfastProtocol
import NIOConcurrencyHelpers
import NIOCore

/// Publications on their way from the broker to one event loop.
///
/// The loop is woken once for however many wait: what came together leaves together, in one write per session.
final class Mailbox: Sendable {
    private struct State {
        var publications: [Publication] = []
        var isScheduled = false
    }

    private let state = NIOLockedValueBox(State())
    private let loop: any EventLoop

    init(loop: any EventLoop) {
        self.loop = loop
    }

    var count: Int { self.state.withLockedValue { $0.publications.count } }

    /// Queues a publication. `drain` runs on the loop when it gets round to it.
    func post(_ publication: Publication, drain: @escaping @Sendable () -> Void) {
        let mustSchedule = self.state.withLockedValue { state in
            state.publications.append(publication)
            defer { state.isScheduled = true }
            return !state.isScheduled
        }
        if mustSchedule { self.loop.execute(drain) }
    }

    func take() -> [Publication] {
        self.state.withLockedValue { state in
            defer { state = State() }
            return state.publications
        }
    }
}
