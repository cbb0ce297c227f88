import Synchronization

/// Holds a child that is replaced when it is started again.
final class ProcessBox: Sendable {
    private let child = Mutex<ChildProcess?>(nil)

    var value: ChildProcess? { self.child.withLock { $0 } }

    func set(_ child: ChildProcess) { self.child.withLock { $0 = child } }
}
