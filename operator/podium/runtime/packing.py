"""Objects kept small: compressed, with the words that all of them share taken for known.

Two promotions, or two Deployments, differ in names, digests and times. By itself each compresses
to a kilobyte; as a difference from what is usual, to a third of that.
"""

import zlib

LEVEL = 6
# Any text would do; the more of an object's own stands in it (best at its end), the better.
USUAL = r"""
"progressDeadlineSeconds":600,"replicas":2,"revisionHistoryLimit":10,"selector":{"matchLabels":{
"app.kubernetes.io/name":"strategy":{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":"25%"},
"type":"RollingUpdate"},"template":{"metadata":{"labels":{"app":"annotations":{
"podium.dev/model-version":"podium.dev/move-id":"spec":{"containers":[{"args":["mlflow",
"models","serve","--host","0.0.0.0","--port","8080","--env-manager","local"],"command":["env":[{
"name":"MODEL_URI","value":"models:/@champion"},{"name":"MLFLOW_TRACKING_URI","value":"http://",
"valueFrom":{"secretKeyRef":{"key":"image":"imagePullPolicy":"IfNotPresent","livenessProbe":{
"failureThreshold":3,"httpGet":{"path":"/ping","port":8080,"scheme":"HTTP"},
"initialDelaySeconds":"periodSeconds":10,"successThreshold":1,"timeoutSeconds":1},
"name":"server","ports":[{"containerPort":8080,"name":"http","protocol":"TCP"}],
"readinessProbe":{"startupProbe":{"resources":{"limits":{"cpu":"1","memory":"2Gi"},"requests":{
"cpu":"500m","memory":"1Gi"}},"securityContext":{"allowPrivilegeEscalation":false},
"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File",
"volumeMounts":[{"mountPath":"dnsPolicy":"ClusterFirst","restartPolicy":"Always",
"schedulerName":"default-scheduler","securityContext":{},
"serviceAccountName":"serviceAccount":"terminationGracePeriodSeconds":30,"volumes":[{
"emptyDir":{},"status":{"availableReplicas":2,"conditions":[{"lastTransitionTime":"2026-",
"lastUpdateTime":"2026-","message":"Deployment has minimum availability.",
"reason":"MinimumReplicasAvailable","status":"True","type":"Available"},"message":"ReplicaSet
 \"\" has successfully progressed.","reason":"NewReplicaSetAvailable","status":"True",
"type":"Progressing"}],"observedGeneration":1,"readyReplicas":2,"replicas":2,
"terminatingReplicas":0,"updatedReplicas":2}}{"apiVersion":"apps/v1","kind":"Deployment",
"metadata":{"annotations":{"deployment.kubernetes.io/revision":"1"},"uid":"latest_versions
 run_id source user_id READY created_at updated_at s3://mlflow-artifacts:/artifacts/model
 Production Archived Staging None podium.dev/head/ podium.dev/owner/ podium.dev/champion/phase
 Promoted podium.dev/champion/validation passed podium.dev/champion/staging-at
 podium.dev/champion/production-at podium.dev/champion/archived-at podium.dev/ledger/0000{
"cluster":"namespace":"name":"since":"{"action":"PromotionIntent",
"alias":"attempt":"RollbackIntent","RolledBack","Rejected","gates":[{"name":"verdict":"Pass",
"message":"apiVersion":"podium.dev/v1alpha1","kind":"ModelPromotion","metadata":{
"creationTimestamp":"2026-","generation":1,"labels":{
"app.kubernetes.io/part-of":"name":"namespace":"resourceVersion":"uid":"annotations":{}},
"spec":{"alias":"champion","candidate":{"latest":{}},"historyLimit":10,"model":"registryRef":{
"name":"default"},"rollback":{"automatic":true,"bakeDuration":"0s","whenUnknown":"Hold"},
"rollout":{"progressDeadline":"10m"},"stage":"Production","supersede":"BeforeApproval",
"suspend":false,"targets":[{"deployment":{"container":"server","name":"modelSource":{
"envVar":"MODEL_URI","takeover":false,"type":"Alias"},"name":"api"}]},"status":{"attempt":{
"phase":"Promoted","moveID":"previous":"champion":{"since":"2026-","targets":[{"name":"api",
"ready":true,"version":"1"}],"version":"1"},"claim":{"confirmed":true,"since":"2026-},
"conditions":[{"lastTransitionTime":"2026-","message":"version 1 is served",
"observedGeneration":1,"reason":"ChampionServed","status":"True","type":"Ready"},{
"lastTransitionTime":"2026-","message":"","observedGeneration":1,"reason":"UpToDate",
"status":"False","type":"Reconciling"},"reason":"ChampionServed","status":"False",
"type":"Stalled"},{"message":"","reason":"NoAttempt","status":"False","type":"AttemptActive"}],
"highestPromoted":"1","history":[{"action":"Adopted","alias":"champion",
"candidate":"sha256:"hash":"sha256:"model":"operator":"0.1.0","previous":"sha256:"seq":1,
"signature":"==","spec":"sha256:"time":"2026-","from":"to":"1"}],
"ledgerHead":"sha256:"ledgerSeq":1,"observedGeneration":1,"signer":"="}}
""".replace("\n", "").encode()


def pack(content: bytes) -> bytes:
    packer = zlib.compressobj(LEVEL, zdict=USUAL)
    return packer.compress(content) + packer.flush()


def unpack(packed: bytes) -> bytes:
    """Raises zlib.error for what `pack` did not make."""
    return zlib.decompressobj(zdict=USUAL).decompress(packed)
