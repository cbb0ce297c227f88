import DequeModule
import HoldfastProtocol

/// Puts work that takes time in order: of one name one after the other, of different names side by side, and work without a
/// name by itself: it waits for everything before it, and everything after it waits for it.
///
/// Sans-IO: it only says what may start.
public struct Lanes<Work> {
    private enum Name: Hashable {
        case lane(ExactName)
        case alone
    }

    private let limit: Int
    private var running: Set<Name> = []
    private var waiting = Deque<(name: Name, work: Work)>()

    /// - Parameter limit: how many names may have work under way at once.
    public init(limit: Int = .max) {
        self.limit = limit
    }

    public var isIdle: Bool { self.running.isEmpty && self.waiting.isEmpty }
    public var waitingCount: Int { self.waiting.count }
    /// What is under way, and what waits for it.
    public var count: Int { self.running.count + self.waiting.count }

    /// - Parameter name: `nil` for work that is done alone.
    /// - Returns: whether the work may start now; if not, ``finished(_:)`` gives it back in its turn.
    public mutating func submit(_ work: Work, _ name: String?) -> Bool {
        let name = name.map { Name.lane(ExactName($0)) } ?? .alone
        guard self.mayStart(name, before: self.waiting.endIndex) else {
            self.waiting.append((name, work))
            return false
        }
        self.running.insert(name)
        return true
    }

    /// Work of this name is done. - Returns: what may start now, in order.
    public mutating func finished(_ name: String?) -> [Work] {
        self.running.remove(name.map { Name.lane(ExactName($0)) } ?? .alone)
        var started: [Work] = []
        var index = self.waiting.startIndex
        while index < self.waiting.endIndex {
            let next = self.waiting[index]
            if self.mayStart(next.name, before: index) {
                self.running.insert(next.name)
                self.waiting.remove(at: index)
                started.append(next.work)
            } else if next.name == .alone || self.running.count >= self.limit {
                // Nothing passes it; or nothing more may start.
                break
            } else {
                index += 1
            }
        }
        return started
    }

    private func mayStart(_ name: Name, before index: Int) -> Bool {
        if name == .alone { return self.running.isEmpty && index == self.waiting.startIndex }
        guard self.running.count < self.limit else { return false }
        guard !self.running.contains(name), !self.running.contains(.alone) else { return false }
        return !self.waiting[..<index].contains { $0.name == name || $0.name == .alone }
    }
}
