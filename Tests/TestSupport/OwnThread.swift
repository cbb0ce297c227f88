import Foundation

/// Runs what computes for long on a thread of its own: on one of the few that run asynchronous tests, it would hold up those
/// that wait for something with a deadline.
public func onOwnThread<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
    try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread {
            continuation.resume(with: Swift.Result { try body() })
        }
    }
}
