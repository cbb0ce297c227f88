import HoldfastCore
import HoldfastProtocol
import NIOCore

/// What a ``ClientConnection`` tells the app, in order.
package enum ConnectionEvent: Sendable, Equatable {
    /// What the app came for: messages, gaps, states, replies.
    case news(ConnectionNews)
    /// What becomes of the lines below, for people who want to know.
    case line(LineNews)
    /// The machine has the command of this `id`: from now on, what is told of the subscription is about this one.
    case began(subscription: String, id: String)
}

package enum LineNews: Sendable, Equatable {
    /// An attempt begins.
    case opening(line: Int, transport: ClientTransport)
    /// What carries the session from now on.
    case carried(by: ClientTransport)
    /// A stream or a poll ended before its time. The line listens anew.
    case cut(line: Int, reason: String)
    /// It failed, or the line has ended; code 1006 where nobody gave one.
    case ended(line: Int, code: CloseCode, reason: String)
    /// The line that carries the session has not answered in time. Another is tried beside it.
    case suspect(line: Int)
    /// It has spoken again.
    case trusted(line: Int)
}

/// The events of one connection, for one reader. Ends when the connection is closed for good; a reader that stops early
/// closes the connection.
package struct ConnectionEvents: AsyncSequence, Sendable {
    typealias Producer = NIOAsyncSequenceProducer<
        ConnectionEvent, NIOAsyncSequenceProducerBackPressureStrategies.HighLowWatermark, EventDemand
    >

    let producer: Producer

    package struct AsyncIterator: AsyncIteratorProtocol {
        var iterator: Producer.AsyncIterator

        package mutating func next() async -> ConnectionEvent? { await self.iterator.next() }
    }

    package func makeAsyncIterator() -> AsyncIterator { AsyncIterator(iterator: self.producer.makeAsyncIterator()) }
}

/// Hands the reader's wishes to the connection's event loop.
final class EventDemand: NIOAsyncSequenceProducerDelegate {
    private let driver: NIOLoopBoundBox<ConnectionDriver?>

    init(driver: NIOLoopBoundBox<ConnectionDriver?>) {
        self.driver = driver
    }

    func produceMore() {
        let driver = self.driver
        driver.eventLoop.execute { driver.value?.resume() }
    }

    func didTerminate() {
        let driver = self.driver
        driver.eventLoop.execute { driver.value?.input(.close) }
    }
}
