import HoldfastProtocol
import Testing

@testable import HoldfastCore

@Suite struct SendQueueTests {
    private func queue(_ sizes: [Int]) -> SendQueue {
        var queue = SendQueue()
        for size in sizes { #expect(queue.append(event(bytes: size), limit: .max) == true) }
        #expect(queue.bytes == sizes.reduce(0, +))
        return queue
    }

    /// 30 bytes wait.
    @Test(arguments: [(29, false), (30, false), (31, true)])
    func limit(_ limit: Int, _ fits: Bool) {
        var queue = self.queue([10, 10, 10])
        #expect(queue.append(event(), limit: limit) == fits)
        #expect(queue.events.count == (fits ? 4 : 3))
        #expect(queue.bytes == (fits ? 40 : 30))
    }

    @Test func oneLargeEventPasses() {
        var queue = SendQueue()
        #expect(queue.append(event(bytes: 100), limit: 10) == true)
        #expect(queue.append(event(bytes: 2), limit: 10) == false)
        queue.removeFirst(1)
        #expect(queue.isEmpty)
        #expect(queue.append(event(bytes: 100), limit: 0) == true)
    }

    @Test(arguments: [
        (0, 1), (9, 1), (10, 1), (29, 1), (30, 2), (59, 2), (60, 3), (61, 3), (99, 3), (100, 4), (1000, 4),
    ])
    func countAtMost(_ bytes: Int, _ count: Int) {
        #expect(self.queue([10, 20, 30, 40]).count(atMost: bytes) == count)
    }

    @Test func countOfNothing() {
        #expect(SendQueue().count(atMost: 0) == 0)
        #expect(SendQueue().count(atMost: 100) == 0)
    }

    @Test func removesFromTheFront() {
        var queue = self.queue([10, 20, 30, 40])
        let events = queue.events
        queue.removeFirst(0)
        #expect(queue.bytes == 100)
        queue.removeFirst(3)
        #expect(queue.bytes == 40)
        #expect(isSame(queue.events, events[3...]))
        queue.removeFirst(1)
        #expect(queue.bytes == 0)
        #expect(queue.isEmpty)
    }

    @Test func removesAll() {
        var queue = self.queue(Array(repeating: 10, count: 50))
        queue.removeAll()
        #expect(queue.isEmpty)
        #expect(queue.bytes == 0)
        #expect(queue.append(event(), limit: 1) == true)
    }
}
